// A copy that writes its map as often as it can, and a line for each report: to be killed. Arguments: source, target, map, and
// whether it goes on with that.

import { prepareCopy } from '../../src/copy/copy.ts'
import { openSource, openTarget } from '../../src/copy/endpoint-spec.ts'

const [from = '', to = '', map = '', resume] = process.argv.slice(2)
const source = await openSource(from, {})
const target = await openTarget(to, {})
const how = { map, resume: resume === 'resume', chunk: 65536, depth: 8, saveMs: 0 }
const planned = await prepareCopy(source, [target], how)
await planned.run({ onReport: ({ bytes }) => process.stdout.write(`${bytes}\n`) })
await target.close()
await source.close()
