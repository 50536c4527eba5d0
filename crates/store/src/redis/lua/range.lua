-- Reads a part of a log.
-- KEYS: state, log, replaced.
-- ARGV: "after" or "before", offset, most records, most payload bytes.
-- Answers: nothing if there is no log; or epoch, first, head, ordinal, bytes, then of each record offset, id, ordinal,
-- author, time, payload.

local state = redis.call('HMGET', KEYS[1], 'epoch', 'first', 'head', 'ordinal', 'bytes')
if not state[1] then return {} end
local answer = {state[1], state[2], state[3], state[4], state[5]}
local forwards = ARGV[1] == 'after'
local first, head = tonumber(state[2]), tonumber(state[3])
local records, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local replaced = redis.call('EXISTS', KEYS[3]) == 1
local next
if forwards then
  next = math.max(tonumber(ARGV[2]) + 1, first)
else
  next = math.min(tonumber(ARGV[2]) - 1, head)
end

local taken, size = 0, 0
while taken < records and next >= first and next <= head do
  local from, count = string.format('%.0f-0', next), math.min(records - taken, 128)
  local entries
  if forwards then
    entries = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', count)
  else
    entries = redis.call('XREVRANGE', KEYS[2], from, string.format('%.0f-0', first), 'COUNT', count)
  end
  -- What is missing is noticed by who asked.
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    local offset, fields = string.match(entry[1], '^%d+'), entry[2]
    local author, payload = fields[8], fields[10]
    if replaced then
      local other = redis.call('HGET', KEYS[3], offset)
      if other then
        local author_size, rest = string.match(other, '^(%d+) (.*)$')
        author, payload = string.sub(rest, 1, tonumber(author_size)), string.sub(rest, tonumber(author_size) + 1)
      end
    end
    size = size + #payload
    if size > bytes and taken > 0 then return answer end
    taken = taken + 1
    local at = #answer
    answer[at + 1], answer[at + 2], answer[at + 3] = offset, fields[2], fields[4]
    answer[at + 4], answer[at + 5], answer[at + 6] = author, fields[6], payload
    next = tonumber(offset) + (forwards and 1 or -1)
  end
end
return answer
