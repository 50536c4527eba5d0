-- Puts records back where they were.
-- KEYS: state, log, seen, order.
-- ARGV: epoch, head and ordinal before, then of each record: offset, id, ordinal, author, time, payload.
-- Answers "MOVED" if the log is elsewhere, or epoch, first, head, ordinal, bytes.

local function text(number)
  return string.format('%.0f', number)
end

local state = redis.call('HMGET', KEYS[1], 'epoch', 'head', 'ordinal', 'first', 'bytes')
if state[1] and (state[1] ~= ARGV[1] or state[2] ~= ARGV[2] or state[3] ~= ARGV[3]) then
  return {'MOVED'}
end
local head, ordinal = ARGV[2], ARGV[3]
local first, bytes = state[4] or text(tonumber(head) + 1), tonumber(state[5] or 0)
for at = 4, #ARGV, 6 do
  local offset, id, count, author, time, payload = unpack(ARGV, at, at + 5)
  redis.call('XADD', KEYS[2], offset .. '-0', 'i', id, 'o', count, 't', time, 'a', author, 'p', payload)
  redis.call('HSET', KEYS[3], 'i' .. id, id .. offset .. ' ' .. count .. ' ' .. time)
  redis.call('RPUSH', KEYS[4], offset .. ' ' .. time .. ' ' .. id)
  head, ordinal, bytes = offset, count, bytes + #payload
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'first', first, 'head', head, 'ordinal', ordinal, 'bytes', text(bytes))
return {ARGV[1], first, head, ordinal, text(bytes)}
