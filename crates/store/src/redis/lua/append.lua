-- Appends to one log, all of it or nothing.
-- KEYS: state, log, seen, order, replaced, turn.
-- ARGV: turn, may create, last time to write (milliseconds since 1970) or nothing, the epoch it must have or nothing, epoch,
-- number of records, then of each: id, "k" and key or nothing, author, time, whether it counts, payload; number of
-- replaces, then of each: offset, author, payload, "w" and the payload expected so far or nothing.
-- Answers: nothing if there is no log and none begins; "CREATE" if one would; "LATE" and the time; "CONFLICT"; or epoch,
-- first, head, ordinal, bytes, then for each record whether it repeats another ("1" or "0"), with id, offset, ordinal and
-- time of the first. Of a log of another epoch than it must have: nothing about records.

local function text(number)
  return string.format('%.0f', number)
end

local function known(seen, id, key)
  return seen['i' .. id] or (key ~= '' and seen[key]) or nil
end

-- What a record says now.
local function payload_of(field)
  local other = redis.call('HGET', KEYS[5], field)
  if other then
    local author_size, rest = string.match(other, '^(%d+) (.*)$')
    return string.sub(rest, tonumber(author_size) + 1)
  end
  return redis.call('XRANGE', KEYS[2], field .. '-0', field .. '-0')[1][2][10]
end

local state = redis.call('HMGET', KEYS[1], 'epoch', 'first', 'head', 'ordinal', 'bytes')
local count = tonumber(ARGV[6])
local records, after = 7, 6 + 6 * count
local replaces = tonumber(ARGV[after + 1])
if ARGV[4] ~= '' and state[1] ~= ARGV[4] then
  if not state[1] then return {} end
  return {state[1], state[2], state[3], state[4], state[5]}
end
if not state[1] and count == 0 then return {} end

-- By id or key, what is there already.
local seen, all_seen = {}, true
for at = records, after, 6 do
  local id, key = ARGV[at], ARGV[at + 1]
  seen['i' .. id] = redis.call('HGET', KEYS[3], 'i' .. id) or nil
  if key ~= '' and not seen['i' .. id] then
    seen[key] = redis.call('HGET', KEYS[3], key) or nil
  end
  all_seen = all_seen and known(seen, id, key) ~= nil
end
-- With records that are all there already, the replaces were done with the first ones.
if count > 0 and all_seen then replaces = 0 end

if ARGV[3] ~= '' and (not all_seen or replaces > 0) then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  if now > tonumber(ARGV[3]) then return {'LATE', text(now)} end
end
if not state[1] and ARGV[2] ~= '1' then return {'CREATE'} end

-- What waited in a broken connection must not undo what came after it. Records need no such care: they are known by
-- their ids.
if replaces > 0 or not state[1] then
  local last = redis.call('GET', KEYS[6])
  if last and tonumber(last) > tonumber(ARGV[1]) then
    return redis.error_reply('STALE a later commit of the same writer was done before')
  end
  redis.call('SET', KEYS[6], ARGV[1], 'EX', 3600)
end

local epoch = state[1] or ARGV[5]
local first, head = tonumber(state[2] or 1), tonumber(state[3] or 0)
local ordinal, bytes = tonumber(state[4] or 0), tonumber(state[5] or 0)

for at = after + 2, after + 1 + 4 * replaces, 4 do
  local offset, was = tonumber(ARGV[at]), ARGV[at + 3]
  if was ~= '' and offset >= first and offset <= head and payload_of(text(offset)) ~= string.sub(was, 2) then
    return {'CONFLICT'}
  end
end

local outcomes, new = {}, 0
for at = records, after, 6 do
  local id, key, author, time, counted, payload = unpack(ARGV, at, at + 5)
  local first_one = known(seen, id, key)
  if first_one then
    outcomes[#outcomes + 1] = '1' .. first_one
  else
    new = new + 1
    head = head + 1
    ordinal = ordinal + tonumber(counted)
    bytes = bytes + #payload
    local offset = text(head)
    redis.call('XADD', KEYS[2], offset .. '-0', 'i', id, 'o', text(ordinal), 't', time, 'a', author, 'p', payload)
    local outcome = id .. offset .. ' ' .. text(ordinal) .. ' ' .. time
    redis.call('HSET', KEYS[3], 'i' .. id, outcome)
    seen['i' .. id] = outcome
    if key ~= '' then
      redis.call('HSET', KEYS[3], key, outcome)
      seen[key] = outcome
    end
    redis.call('RPUSH', KEYS[4], offset .. ' ' .. time .. ' ' .. id .. key)
    outcomes[#outcomes + 1] = '0' .. outcome
  end
end

-- Ids and keys are remembered for 10,000 records and five minutes of the records' own time.
if new > 0 then
  local now = tonumber(ARGV[after - 2])
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

for at = after + 2, after + 1 + 4 * replaces, 4 do
  local offset, author, payload = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  if offset >= first and offset <= head then
    local field = text(offset)
    bytes = bytes + #payload - #payload_of(field)
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
