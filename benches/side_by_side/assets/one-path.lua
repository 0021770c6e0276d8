-- The same request over and over.

function done(summary, latency)
    local errors = summary.errors
    print(string.format("RESULT requests=%d micros=%d octets=%d connect=%d read=%d write=%d status=%d timeout=%d p50=%d p99=%d",
        summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write, errors.status,
        errors.timeout, latency:percentile(50), latency:percentile(99)))
end
