-- What the server says of itself. Who may not ask gets nothing, not an error: it is for people only.
local told = redis.pcall('INFO', 'server')
return type(told) == 'string' and told or ''
