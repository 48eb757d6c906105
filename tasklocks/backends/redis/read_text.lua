local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', time[1], time[2]}
