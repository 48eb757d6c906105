local owner = ARGV[1]

drop()
serve('')
local doomed = owner and {owner} or redis.call('ZRANGE', leases, 0, -1)
local ended = 0
for _, each in ipairs(doomed) do
  if redis.call('ZSCORE', leases, each) then
    forget_lease(each, lease_of(each))
    ended = ended + 1
  end
end
serve('')
return ended
