// A result as one HTML file that opens anywhere: nothing is loaded, no script runs, light and dark follow the
// reader's setting. What a chart can't say exactly is in a table below it.

import { binary, decimal, short, sizeText, timeText } from '../../lib/sys/units.ts'
import { distributionChart, escapeHtml, percentileChart, percentilesOf, rateChart, waysOf } from './charts.ts'
import { type BenchOptions, DEFAULT_NAME } from './plan.ts'
import { depthShares } from './report-text.ts'
import type { BenchResult, DirectionSummary } from './run.ts'

const PERCENTS = [1, 10, 50, 90, 99, 99.9, 99.99] as const

/** The whole page. */
export function reportHtml(result: BenchResult, version: string): string {
  const { options, target } = result
  const { rw, bs, iodepth, numjobs } = options
  const jobs = numjobs === 1 ? '1 job' : `${numjobs} jobs`
  const named = options.name === DEFAULT_NAME ? '' : `${options.name}: `
  const title = `${named}${rw}, ${sizeText(bs)}, depth ${iodepth}, ${jobs}`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(`${title}: ${target.name}`)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<header>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(target.name)}</p>
<p class="quiet">${escapeHtml(target.description)}; ${escapeHtml(result.startedAt.toISOString())}</p>
</header>
${waysOf(result)
  .map((way) => tiles(way, result[way], options.gtodReduce))
  .join('\n')}
${rates(result)}
${options.gtodReduce ? '' : latencies(result)}
${settings(result, version)}
</main>
</body>
</html>
`
}

function tiles(way: string, direction: DirectionSummary, noLatencies: boolean): string {
  const { iops, bandwidth, bytes, lat } = direction
  const tile = (label: string, value: string, more = '') =>
    `<div class="tile"><dt>${label}</dt><dd>${value}</dd>${more && `<dd class="quiet">${more}</dd>`}</div>`
  const latency = [
    tile('Median latency', timeText(lat.percentile(50)), `mean ${timeText(lat.mean)}`),
    tile('99 % within', timeText(lat.percentile(99)), `99.9 % ${timeText(lat.percentile(99.9))}`),
  ]
  return `<dl class="tiles ${way}">
${tile(way === 'read' ? 'Reads a second' : 'Writes a second', short(iops), `${direction.ios} in ${(direction.runtime / 1000).toFixed(1)} s`)}
${tile('Bandwidth', `${apart(decimal(bandwidth))}/s`, `${apart(decimal(bytes))} in all`)}
${noLatencies ? '' : latency.join('\n')}
</dl>`
}

function legend(result: BenchResult): string {
  const ways = waysOf(result)
  if (ways.length < 2) return ''
  return `<p class="legend">${ways.map((way) => `<span class="key ${way}"></span>${way}s`).join(' ')}</p>`
}

function section(title: string, what: string, content: string): string {
  return `<section>
<h2>${escapeHtml(title)}</h2>
<p class="quiet">${escapeHtml(what)}</p>
${content}
</section>`
}

function rates(result: BenchResult): string {
  const chart = rateChart(result, 'iops')
  const title = 'Rate over time'
  if (chart === null) return section(title, 'It was over before a first sample, a quarter of a second.', '')
  return section(title, 'I/Os in a second, four samples a second.', legend(result) + chart)
}

function latencies(result: BenchResult): string {
  const ways = waysOf(result)
  const charts = ways.map((way) =>
    section(
      `${way === 'read' ? 'Read' : 'Write'} latency`,
      'From the call to its end, as a share of all. The rarest 0.01 % at either end are left out.',
      distributionChart(result[way], way),
    ),
  )
  const rows = ways.flatMap((way) =>
    (['slat', 'clat', 'lat'] as const).map((part) => {
      const histogram = result[way][part]
      const cells = [histogram.min, histogram.mean, histogram.stddev].map(timeText)
      const all = [...cells, ...percentilesOf(histogram, PERCENTS), timeText(histogram.max)]
      return `<tr><th scope="row">${way} ${PARTS[part]}</th>${all.map((cell) => `<td>${cell}</td>`).join('')}</tr>`
    }),
  )
  const heads = ['min', 'mean', 'stdev', ...PERCENTS.map((percent) => `${percent} %`), 'max']
  const table = `<div class="wide"><table>
<thead><tr><th></th>${heads.map((head) => `<th scope="col">${head}</th>`).join('')}</tr></thead>
<tbody>${rows.join('')}</tbody>
</table></div>`
  const tail = section(
    'Percentiles',
    'How many took no longer than this; each step to the right is a tenth of those left.',
    legend(result) + percentileChart(result) + table,
  )
  return [...charts, tail].join('\n')
}

/** `918 MB` for `918MB`. */
const apart = (amount: string) => amount.replace(/(\d)([A-Za-z])/, '$1 $2')

const PARTS = { slat: 'sending', clat: 'completion', lat: 'in all' } as const

function lengthText({ runtime, loops }: BenchOptions): string {
  const passes = loops === 1 ? 'once over the region' : `${loops} times over the region`
  if (runtime === undefined) return passes
  const time = `${runtime / 1000} s`
  return loops === Number.POSITIVE_INFINITY ? time : `${passes}, at most ${time}`
}

function settings(result: BenchResult, version: string): string {
  const { options, target, usage, verified, unverified, stopped, failure } = result
  const depths = depthShares(result).filter(([, percent]) => percent >= 0.05)
  const verifiedText = `${verified} I/Os${unverified > 0 ? `, ${unverified} not read back` : ''}`
  const pairs: (readonly [name: string, text: string])[] = [
    ['rw', options.rw],
    ['bs', sizeText(options.bs)],
    ['iodepth', String(options.iodepth)],
    ['numjobs', String(options.numjobs)],
    ['runtime', lengthText(options)],
    ['ramp time', `${options.rampTime / 1000} s`],
    ['region', `${apart(binary(options.size ?? target.bytes - options.offset))} from byte ${options.offset}`],
    ['device', `${apart(binary(target.bytes))}, blocks of ${target.blocksize} bytes`],
    ['engine', target.engine],
    ['depth reached', depths.map(([level, percent]) => `${level}: ${percent.toFixed(1)} %`).join(', ')],
    ['processor', `${usage.user.toFixed(0)} % user, ${usage.system.toFixed(0)} % system`],
    ...(options.verify === 'none' ? [] : [['verified', verifiedText] as const]),
    ...(failure ? [['ended', failure.message] as const] : []),
    ...(stopped ? [['ended', 'stopped before its time'] as const] : []),
    ['made by', `unvme ${version}`],
  ]
  const rows = pairs.map(([name, text]) => `<div><dt>${name}</dt><dd>${escapeHtml(text)}</dd></div>`)
  return `<section><h2>Settings</h2><dl class="settings">${rows.join('')}</dl></section>`
}

export const STYLE = `
:root {
  --page: #f6f7f9; --card: #ffffff; --text: #1a1e26; --quiet: #5b6472; --grid: #e7e9ee; --axis: #aab1bd;
  --read: #1f6fd6; --write: #c25e00; --mark: #3c4350;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #13151a; --card: #1b1e25; --text: #e7e9ee; --quiet: #9ba4b3; --grid: #2b3039; --axis: #545c6a;
    --read: #6aa9ff; --write: #f09a4a; --mark: #c3c9d4;
  }
}
* { box-sizing: border-box; margin: 0; }
body { background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 32px 20px 48px; display: grid; gap: 16px; }
h1 { font-size: 24px; line-height: 1.25; }
h2 { font-size: 16px; }
.quiet { color: var(--quiet); font-size: 13px; }
section, .tile { background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 16px; }
section { min-width: 0; overflow-x: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; }
.tile { box-shadow: inset 0 3px 0 var(--hue); }
.tile dt { color: var(--quiet); font-size: 13px; }
.tile dd:nth-of-type(1) { font-size: 26px; font-weight: 600; line-height: 1.3; }
.read { --hue: var(--read); }
.write { --hue: var(--write); }
svg { display: block; width: 100%; min-width: 600px; height: auto; margin-top: 10px; font: 12px system-ui, sans-serif; }
svg text { fill: var(--quiet); }
svg text.mark { fill: var(--mark); paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.grid { stroke: var(--grid); }
.axis, line.tick { stroke: var(--axis); }
.line { fill: none; stroke: var(--hue); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.area { fill: var(--hue); opacity: 0.12; }
.bar, .dot { fill: var(--hue); }
.mark { stroke: var(--mark); }
line.mark { stroke-dasharray: 3 3; opacity: 0.7; }
.shade { fill: var(--grid); opacity: 0.6; }
.hit { fill: transparent; }
.guide { stroke: var(--axis); opacity: 0; }
.column:hover .guide { opacity: 1; }
.column:hover .bar { opacity: 0.7; }
.column:hover .hit { fill: var(--grid); fill-opacity: 0.5; }
.legend { display: flex; gap: 14px; align-items: center; font-size: 13px; margin-top: 8px; }
.key { display: inline-block; width: 14px; height: 3px; border-radius: 2px; background: var(--hue); margin-right: -6px; }
.wide { overflow-x: auto; margin-top: 12px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
thead th { color: var(--quiet); font-weight: 500; }
th[scope="row"] { text-align: left; font-weight: 500; }
.settings { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 4px 24px; margin-top: 10px; font-size: 13px; }
.settings div { display: flex; gap: 8px; border-bottom: 1px solid var(--grid); padding: 3px 0; }
.settings dt { color: var(--quiet); flex: 0 0 96px; }
.settings dd { overflow-wrap: anywhere; }
@media print { body { background: none; } section, .tile { break-inside: avoid; } }
`
