-- Drops some of what a log has too much of.
-- KEYS: state, log, replaced.
-- ARGV: most records, most payload bytes (0: any), the oldest time to keep or nothing, most records to drop now.
-- Answers: nothing if there is no log; or epoch, first, head, ordinal, bytes, and "1" if there may be more to drop.

local function text(number)
  return string.format('%.0f', number)
end

local state = redis.call('HMGET', KEYS[1], 'epoch', 'first', 'head', 'ordinal', 'bytes')
if not state[1] then return {} end
local begin, head, bytes = tonumber(state[2]), tonumber(state[3]), tonumber(state[5])
local records_max, bytes_max, oldest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local first, last = begin, math.min(head, begin + tonumber(ARGV[4]) - 1)
local replaced = redis.call('EXISTS', KEYS[3]) == 1
local more = true

while more and first <= last do
  local count = math.min(last - first + 1, 128)
  local entries = redis.call('XRANGE', KEYS[2], text(first) .. '-0', '+', 'COUNT', count)
  if #entries == 0 then
    more = false
  end
  for _, entry in ipairs(entries) do
    local offset, fields = string.match(entry[1], '^%d+'), entry[2]
    if not ((records_max > 0 and head - first + 1 > records_max)
        or (bytes_max > 0 and bytes > bytes_max)
        or (oldest and tonumber(fields[6]) < oldest)) then
      more = false
      break
    end
    local size = #fields[10]
    if replaced then
      local other = redis.call('HGET', KEYS[3], offset)
      if other then
        local author_size, rest = string.match(other, '^(%d+) (.*)$')
        size = #rest - tonumber(author_size)
        redis.call('HDEL', KEYS[3], offset)
      end
    end
    bytes = bytes - size
    first = tonumber(offset) + 1
  end
end

if first > begin then
  redis.call('XTRIM', KEYS[2], 'MINID', text(first) .. '-0')
  redis.call('HSET', KEYS[1], 'first', text(first), 'bytes', text(bytes))
end
return {state[1], text(first), state[3], state[4], text(bytes), (more and first <= head) and '1' or '0'}
