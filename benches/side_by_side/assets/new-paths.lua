-- Each request for a path that nobody has asked for: the first argument, and a number.

local threads = {}

function setup(thread)
    threads[#threads + 1] = thread
end

function init(args)
    before, after = "GET " .. args[1], " HTTP/1.1\r\nHost: bench\r\n\r\n"
    asked = 0
end

function request()
    asked = asked + 1
    return before .. asked .. after
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format("RESULT requests=%d micros=%d octets=%d connect=%d read=%d write=%d status=%d timeout=%d p50=%d p99=%d asked=%d",
        summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write, errors.status,
        errors.timeout, latency:percentile(50), latency:percentile(99), threads[1]:get("asked")))
end
