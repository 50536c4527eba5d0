-- Forgets a log.
-- KEYS: state, log, seen, order, replaced, turn. ARGV: turn.

redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('SET', KEYS[6], ARGV[1], 'EX', 3600)
return 'OK'
