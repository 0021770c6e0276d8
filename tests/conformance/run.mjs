// The public suite http-cache-tests against the example proxy, on the memory store and on a real Redis.
//
//   node tests/conformance/run.mjs [--runs 3] [--proxy PATH]
//
// The suite is installed in a temporary directory and gone afterwards. Its origin, the proxies and Redis listen on
// loopback ports that the system chooses, or on a socket in that directory, and end with this program. What was found is
// written to results.md; the program fails unless every required and every optimal test that counts passes in every run.

import { execFileSync, spawn } from 'node:child_process'
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const SUITE = { name: 'http-cache-tests', version: '0.4.5' }
const READY_WITHIN = 20_000
const RUN_WITHIN = 180_000
const GONE_WITHIN = 5_000

// Where the suite asks for what the RFCs forbid, and why.
const CONTRADICTING = {
  'conditional-lm-fresh-no-lm':
    'without Last-Modified the Date stands in for it (RFC 9111 §4.3.2), and that is later than the If-Modified-Since sent',
  'vary-normalise-lang-select':
    '`en, de` and `fr;q=0.5, de;q=1.0` are neither the same nor equivalent, so the response must not be used (RFC 9111 §4.1)'
}
for (const end of ['', '-absent', '-byterange', '-suffix']) {
  CONTRADICTING[`partial-store-partial-reuse-partial${end}`] =
    'five octets are sent as `bytes 4-9/10`, which are six (RFC 9110 §14.4): an incomplete part is not to be reused as whole'
}

const here = import.meta.dirname
const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    proxy: { type: 'string' }
  }
})
const runs = Number(options.runs)
const outdated = new Set(readFileSync(path.join(here, 'outdated.ids'), 'utf8').match(/^[^#\s]+$/gm))
const room = mkdtempSync(path.join(tmpdir(), 'conformance-'))
const installed = path.join(room, 'node_modules', SUITE.name)
const children = new Set()

// ===== processes =====

function start (program, args, settings = {}) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...settings })
  child.gone = new Promise(resolve => child.once('close', resolve).once('error', resolve))
  child.stderr.on('data', data => appendFileSync(path.join(room, 'stderr.log'), data))
  child.gone.then(() => children.delete(child))
  children.add(child)
  return child
}

/** The first group of the first line of standard output that matches. */
function says (child, pattern) {
  return within(READY_WITHIN, child.spawnargs.join(' '), new Promise((resolve, reject) => {
    child.gone.then(() => reject(new Error(`${child.spawnfile} ended:\n${log()}`)))
    createInterface({ input: child.stdout }).on('line', line => {
      const found = pattern.exec(line)
      if (found) resolve(found[1])
    })
  }))
}

async function within (limit, what, promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${limit} ms: ${what}\n${log()}`)), limit)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function stopAll () {
  await Promise.all([...children].map(async child => {
    child.kill('SIGTERM')
    const insist = setTimeout(() => child.kill('SIGKILL'), GONE_WITHIN)
    await child.gone
    clearTimeout(insist)
  }))
  rmSync(room, { recursive: true, force: true })
}

function log () {
  try { return readFileSync(path.join(room, 'stderr.log'), 'utf8') } catch { return '' }
}

/** The proxy as cargo builds it, which is no work where the tests have just been built. */
function builtProxy () {
  const args = ['build', '--all-features', '--example', 'proxy', '--message-format=json-render-diagnostics']
  const settings = { cwd: here, encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] }
  const messages = execFileSync(process.env.CARGO ?? 'cargo', args, settings).trim().split('\n')
  return messages.map(line => JSON.parse(line)).findLast(message => message.executable).executable
}

// ===== the suite =====

function startOrigin () {
  const preload = path.join(here, 'loopback.cjs')
  const env = { ...process.env, npm_config_protocol: 'http', npm_config_port: '0', npm_config_pidfile: path.join(room, 'origin.pid') }
  const origin = start(process.execPath, ['--no-warnings', '-r', preload, 'server/server.mjs'], { cwd: installed, env })
  return says(origin, /^Listening on (http:\/\/127\.0\.0\.1:\d+)/)
}

async function startRedis () {
  const socket = path.join(room, 'redis.sock')
  const redis = start('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', room])
  await says(redis, /(ready to accept connections)/i)
  return `unix://${socket}`
}

function startProxy (program, origin, args) {
  const proxy = start(program, ['--origin', origin, '--listen', '127.0.0.1:0', '--policy', 'rfc9111', '--log', 'warn',
    '--shutdown-timeout', '1s', ...args], { env: { PATH: process.env.PATH } })
  return says(proxy, /^listening on +(http:\S+)/)
}

async function runSuite (base) {
  const client = start(process.execPath, ['--no-warnings', path.join(here, 'client.mjs'), installed, base])
  let text = ''
  client.stdout.on('data', data => { text += data })
  await within(RUN_WITHIN, 'the suite', client.gone)
  return JSON.parse(text)
}

// ===== the count =====

/** What became of a test, by the suite's own rules: one whose dependencies did not hold was not judged. */
function verdictOf (suite, id, results) {
  const [, , sign] = suite.judge(suite.all, id, results)
  return { '✅': 'passed', Y: 'passed', '⛔️': 'failed', '⚠️': 'failed', N: 'failed', '⚪️': 'depends' }[sign] ?? 'setup'
}

/** The worst that became of each test that counts, over all runs. */
function verdicts (suite, allResults) {
  const order = ['passed', 'depends', 'setup', 'failed']
  const counted = suite.all.flatMap(group => group.tests).filter(test =>
    !test.browser_only && !outdated.has(test.id) && !(test.id in CONTRADICTING))
  return counted.map(({ id, kind = 'required' }) => {
    const found = allResults.map(results => verdictOf(suite, id, results))
    const verdict = order[Math.max(...found.map(verdict => order.indexOf(verdict)))]
    return { id, kind, verdict, said: allResults[found.indexOf(verdict)][id] }
  })
}

function report (stores) {
  const lines = ['# Conformance', '',
    `What \`make conformance\` found with ${SUITE.name} ${SUITE.version} against \`examples/proxy --policy rfc9111\`, in ${runs} ` +
    `run${runs > 1 ? 's in a row' : ''} on each store. A test counts by the worst of its runs.`, '',
    '| store | kind | passed | failed | setup failed | not judged: a test it depends on failed |', '|---|---|--:|--:|--:|--:|']
  for (const [store, tests] of Object.entries(stores)) {
    for (const kind of ['required', 'optimal', 'check']) {
      const count = verdict => tests.filter(test => test.kind === kind && test.verdict === verdict).length
      lines.push(`| ${store} | ${kind} | ${['passed', 'failed', 'setup', 'depends'].map(count).join(' | ')} |`)
    }
  }
  lines.push('', 'A `check` asks which of two permitted ways a cache goes; failing one is no fault.', '', '## Not passed', '')
  const missed = Object.entries(stores).flatMap(([store, tests]) =>
    tests.filter(test => test.verdict !== 'passed').map(test => [`${test.kind} \`${test.id}\`: ${test.verdict}`, store]))
  for (const line of new Set(missed.map(([line]) => line))) {
    lines.push(`- ${line} (${missed.filter(([other]) => other === line).map(([, store]) => store).join(', ')})`)
  }
  lines.push('', '## Left out', '', `- ${outdated.size} tests whose expectation or kind has changed since that version: [outdated.ids](outdated.ids)`,
    '- `surrogate-*`: a protocol of its own, which RFC 9213 has replaced')
  for (const [id, why] of Object.entries(CONTRADICTING)) lines.push(`- \`${id}\`: ${why}`)
  return lines.join('\n') + '\n'
}

async function main () {
  const program = options.proxy ? path.resolve(options.proxy) : builtProxy()
  execFileSync('npm', ['install', '--prefix', room, '--silent', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline',
    `${SUITE.name}@${SUITE.version}`], { stdio: ['ignore', 'ignore', 'inherit'], timeout: RUN_WITHIN })
  const suite = {
    all: (await import(path.join(installed, 'tests/index.mjs'))).default,
    judge: (await import(path.join(installed, 'lib/display.mjs'))).determineTestResult
  }
  const origin = await startOrigin()
  const onStore = async args => {
    const base = await startProxy(program, origin, args)
    const results = []
    while (results.length < runs) results.push(await runSuite(base))
    return verdicts(suite, results)
  }
  const [memory, redis] = await Promise.all([onStore([]), startRedis().then(url => onStore(['--redis', url, '--store-timeout', '5s']))])
  const text = report({ memory, redis })
  writeFileSync(path.join(here, 'results.md'), text)
  process.stdout.write(text)
  const missed = [...memory, ...redis].filter(test => test.kind !== 'check' && test.verdict !== 'passed')
  for (const test of missed) console.error(`${test.id}: ${JSON.stringify(test.said)}`)
  if (missed.length > 0) throw new Error(`required or optimal, and not passed: ${[...new Set(missed.map(test => test.id))].join(', ')}`)
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stopAll().finally(() => process.exit(1)))
await main().catch(error => { console.error(`conformance: ${error.message}`); process.exitCode = 1 }).finally(stopAll)
