-- How the state of a rate is written, unless it is to wait, see `take_all.lua`.
local function put(...)
  redis.call('SET', ...)
end
