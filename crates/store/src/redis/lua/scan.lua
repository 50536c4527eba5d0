-- Reads facts of one family in the order of their names.
-- KEYS: names, values. ARGV: from, to, most facts.
-- Answers name and value of each.

local answer = {}
for _, name in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
  answer[#answer + 1] = name
  answer[#answer + 1] = redis.call('HGET', KEYS[2], name)
end
return answer
