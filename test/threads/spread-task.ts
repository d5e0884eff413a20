// The task of spread.test.ts: fills or sums its part, or goes wrong in the way that `data` names.

import { setTimeout as sleep } from 'node:timers/promises'
import { OutOfRangeError, task } from '../../src/index.ts'

await task(async ({ ns, slba, nlb, index, jobs, data, signal, send }) => {
  const what = data as string
  if (what === 'fill') {
    const block = Buffer.alloc(nlb * ns.blocksize, index + 1)
    await ns.promises.write(block, slba)
    send({ written: nlb })
    return { index, jobs, slba, nlb }
  }
  if (index === 1 && what === 'throw') throw new OutOfRangeError('part 1 is on purpose')
  if (index === 1 && what === 'exit') process.exit(7)
  // The others wait to be notified.
  await sleep(60_000, undefined, { signal }).catch(() => {})
  return undefined
})
