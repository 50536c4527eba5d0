-- Appends to one log, all of it or nothing.
-- KEYS: state, log, seen, order, replaced, turn.
-- ARGV: turn, may create, epoch, number of records, then of each: id, "k" and key or nothing, author, time, whether it
-- counts, payload; number of replaces, then of each: offset, author, payload.
-- Answers: nothing if there is no log and none begins; "CREATE" if one would; or epoch, first, head, ordinal, bytes,
-- then for each record whether it repeats another ("1" or "0"), with id, offset, ordinal and time of the first.

local function text(number)
  return string.format('%.0f', number)
end

local state = redis.call('HMGET', KEYS[1], 'epoch', 'first', 'head', 'ordinal', 'bytes')
local count = tonumber(ARGV[4])
local replaces = tonumber(ARGV[5 + 6 * count])
if not state[1] then
  if count == 0 then return {} end
  if ARGV[2] ~= '1' then return {'CREATE'} end
end

-- What waited in a broken connection must not undo what came after it. Records need no such care: they are known by
-- their ids.
if replaces > 0 or not state[1] then
  local last = redis.call('GET', KEYS[6])
  if last and tonumber(last) > tonumber(ARGV[1]) then
    return redis.error_reply('STALE a later commit of the same writer was done before')
  end
  redis.call('SET', KEYS[6], ARGV[1], 'EX', 3600)
end

local epoch = state[1] or ARGV[3]
local first, head = tonumber(state[2] or 1), tonumber(state[3] or 0)
local ordinal, bytes = tonumber(state[4] or 0), tonumber(state[5] or 0)
local outcomes, new = {}, 0

for at = 5, 4 + 6 * count, 6 do
  local id, key, author, time, counted, payload = unpack(ARGV, at, at + 5)
  local seen = redis.call('HGET', KEYS[3], 'i' .. id)
  if not seen and key ~= '' then
    seen = redis.call('HGET', KEYS[3], key)
  end
  if seen then
    outcomes[#outcomes + 1] = '1' .. seen
  else
    new = new + 1
    head = head + 1
    ordinal = ordinal + tonumber(counted)
    bytes = bytes + #payload
    local offset = text(head)
    redis.call('XADD', KEYS[2], offset .. '-0', 'i', id, 'o', text(ordinal), 't', time, 'a', author, 'p', payload)
    seen = id .. offset .. ' ' .. text(ordinal) .. ' ' .. time
    redis.call('HSET', KEYS[3], 'i' .. id, seen)
    if key ~= '' then
      redis.call('HSET', KEYS[3], key, seen)
    end
    redis.call('RPUSH', KEYS[4], offset .. ' ' .. time .. ' ' .. id .. key)
    outcomes[#outcomes + 1] = '0' .. seen
  end
end

-- Ids and keys are remembered for 10,000 records and five minutes of the records' own time.
if new > 0 then
  local now = tonumber(ARGV[4 + 6 * count - 2])
  for _ = 1, 2 * new + 2 do
    local oldest = redis.call('LINDEX', KEYS[4], 0)
    local offset, time, names = string.match(oldest, '^(%d+) (-?%d+) (.*)$')
    if head - tonumber(offset) <= 10000 or now - tonumber(time) <= 300000 then break end
    redis.call('LPOP', KEYS[4])
    redis.call('HDEL', KEYS[3], 'i' .. string.sub(names, 1, 16))
    if #names > 16 then
      redis.call('HDEL', KEYS[3], string.sub(names, 17))
    end
  end
end

-- With records that are all there already, the replaces were done with the first ones.
local at = 6 + 6 * count
for _ = 1, (count == 0 or new > 0) and replaces or 0 do
  local offset, author, payload = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  if offset >= first and offset <= head then
    local field = text(offset)
    local before = redis.call('HGET', KEYS[5], field)
    local size
    if before then
      local author_size, rest = string.match(before, '^(%d+) (.*)$')
      size = #rest - tonumber(author_size)
    else
      local entry = redis.call('XRANGE', KEYS[2], field .. '-0', field .. '-0')[1]
      size = #entry[2][10]
    end
    bytes = bytes + #payload - size
    redis.call('HSET', KEYS[5], field, #author .. ' ' .. author .. payload)
  end
end

if count > 0 or replaces > 0 then
  -- Also when nothing is new: whoever waits for replicas waits for this write, and so for all before it.
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'first', text(first), 'head', text(head), 'ordinal', text(ordinal),
    'bytes', text(bytes))
end
local answer = {epoch, text(first), text(head), text(ordinal), text(bytes)}
for _, outcome in ipairs(outcomes) do
  answer[#answer + 1] = outcome
end
return answer
