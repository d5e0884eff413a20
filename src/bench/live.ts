// The line on a terminal while a benchmark runs. Rates of the last quarter of a second, which show a
// device that stalls; the report has the means.

import { decimal, short } from '../../lib/sys/units.ts'
import { PHASE } from './job.ts'
import { type BenchOptions, writes } from './plan.ts'
import type { Rate, Sample } from './run.ts'

type Terminal = Pick<NodeJS.WriteStream, 'isTTY' | 'columns' | 'write'>

export interface Live {
  readonly show: (sample: Sample) => void
  /** Takes the line away. */
  readonly stop: () => void
}

/** Shows samples in one line; does nothing where `terminal` is none. */
export function startLive(options: BenchOptions, terminal: Terminal = process.stderr): Live {
  if (!terminal.isTTY) return { show() {}, stop() {} }
  return {
    show: (sample) => {
      const line = liveLine(options, sample).slice(0, (terminal.columns || 80) - 1)
      terminal.write(`\r${line}\u001b[K`)
    },
    stop: () => terminal.write('\r\u001b[K'),
  }
}

/** `randread  12.3 s of 30 s  read 182k IOPS, 745MB/s`. */
export function liveLine(
  { rw, runtime, rampTime }: BenchOptions,
  { at, phase, read, write }: Sample,
): string {
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`
  const rates = [
    ...(rw === 'write' || rw === 'randwrite' ? [] : [rateText('read', read)]),
    ...(writes(rw) ? [rateText('write', write)] : []),
  ]
  if (phase <= PHASE.RAMP) return `${rw}  ramp ${seconds(at)} of ${seconds(rampTime)}  ${rates.join('  ')}`
  const time = seconds(at - rampTime) + (runtime === undefined ? '' : ` of ${seconds(runtime)}`)
  // Between passes as well: the rates are then lower by the time that it takes.
  const readBack = phase === PHASE.VERIFY ? ['reading back'] : []
  return `${rw}  ${time}  ${[...rates, ...readBack].join('  ')}`
}

function rateText(name: string, { iops, bandwidth }: Rate): string {
  return `${name} ${short(iops).padStart(5)} IOPS, ${decimal(bandwidth)}/s`
}
