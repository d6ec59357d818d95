-- Sends whole requests from a file (NUL between them) in turn, for wrk:
--   wrk -s load.lua http://host:port -- requests [chain]
-- With `chain` each answer's refresh token goes into the next request, so that every token is used once.

local queue, first, last = {}, 1, 0
local head, tail
local token = "rt_" .. string.rep("[%w_-]", 43)

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for whole in file:read("*a"):gmatch("[^%z]+") do
    last = last + 1
    queue[last] = whole
  end
  file:close()
  if args[2] == "chain" then
    local from, to = queue[1]:find(token)
    head, tail = queue[1]:sub(1, from - 1), queue[1]:sub(to + 1)
    -- wrk asks for bodies only where a script has this function.
    response = function(_, _, body)
      local successor = body:match('"refresh_token":"(' .. token .. ')"')
      if successor then
        last = last + 1
        queue[last] = head .. successor .. tail
      end
    end
  end
end

function request()
  local whole = queue[first]
  if head then
    -- Out of tokens, as after errors: the first one again, which is an error that gets counted.
    if not whole then return queue[1] end
    if first > 1 then queue[first] = nil end
    first = first + 1
  else
    first = first % last + 1
  end
  return whole
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
