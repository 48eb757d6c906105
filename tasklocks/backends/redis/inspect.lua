local waiters = {}
for _, where in ipairs({LISTENING, AWAY}) do
  for _, ticket in ipairs(redis.call('ZRANGE', where[1], 0, -1)) do
    if tonumber(redis.call('ZSCORE', where[2], ticket)) > now then
      local place = place_of(where, ticket)
      table.insert(waiters, {ticket, place.permits, place.since, where == LISTENING and 1 or 0, place.info})
    end
  end
end
return {capacity, hold and tostring(hold) or '', now, holders(redis.call('ZCARD', leases)), waiters}
