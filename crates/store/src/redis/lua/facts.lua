-- Writes facts of one family.
-- KEYS: names, values, turn.
-- ARGV: turn, may create, last time to write (milliseconds since 1970) or nothing, then of each fact: "S"et, "M"ax or
-- "D"elete, name, value.
-- Answers "CREATE" if the family would begin to exist, "LATE" and the time, or "OK".

local function less(a, b)
  -- Not `<`: that is as the server's locale sorts.
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

if ARGV[3] ~= '' then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  if now > tonumber(ARGV[3]) then return 'LATE ' .. string.format('%.0f', now) end
end
if ARGV[2] ~= '1' and redis.call('EXISTS', KEYS[1]) == 0 then
  for at = 4, #ARGV, 3 do
    if ARGV[at] ~= 'D' then return 'CREATE' end
  end
end
local last = redis.call('GET', KEYS[3])
if last and tonumber(last) > tonumber(ARGV[1]) then
  return redis.error_reply('STALE a later commit of the same writer was done before')
end
redis.call('SET', KEYS[3], ARGV[1], 'EX', 3600)

for at = 4, #ARGV, 3 do
  local change, name, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if change == 'D' then
    redis.call('ZREM', KEYS[1], name)
    redis.call('HDEL', KEYS[2], name)
  else
    local before = change == 'M' and redis.call('HGET', KEYS[2], name)
    if not before or less(before, value) then
      redis.call('ZADD', KEYS[1], 0, name)
      redis.call('HSET', KEYS[2], name, value)
    end
  end
end
return 'OK'
