// Runs the suite by its own runner against one base URL and prints the results as JSON.
//
//   node client.mjs SUITE_DIRECTORY BASE_URL

import { createRequire } from 'node:module'
import path from 'node:path'

const [suite, base] = process.argv.slice(2)
const { runTests, getResults } = await import(path.join(suite, 'client/runner.mjs'))
const { default: tests } = await import(path.join(suite, 'tests/index.mjs'))
const fetch = createRequire(path.join(suite, 'cli.mjs'))('node-fetch')

await runTests(tests, fetch, false, base, 200)
process.stdout.write(JSON.stringify(getResults()))
