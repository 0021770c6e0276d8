// Runs the suite by its own runner against one base URL and prints the results as JSON.
//
//   node client.mjs SUITE_DIRECTORY BASE_URL WAIT_MS
//
// A response is stored off its client's path, so each request first waits a moment for the answer to the one before.

import { createRequire } from 'node:module'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

const [suite, base, wait] = process.argv.slice(2)
const { runTests, getResults } = await import(path.join(suite, 'client/runner.mjs'))
const { default: tests } = await import(path.join(suite, 'tests/index.mjs'))
const fetch = createRequire(path.join(suite, 'cli.mjs'))('node-fetch')

await runTests(tests, (url, init) => pause(Number(wait)).then(() => fetch(url, init)), false, base, 200)
process.stdout.write(JSON.stringify(getResults()))
