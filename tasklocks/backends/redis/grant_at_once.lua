-- What is to be asked before a grant, see `take_all.lua`: nothing.
local begins
