// Hex dumps of what streams by.
// Trade-off: one chunk at a time, so that a dump of a whole device takes no memory.

import { hexDumper } from '../../lib/log/index.ts'

/** The dump of a stream of bytes, a text for each chunk, with the end's position in the last line. */
export async function* hexDump(
  chunks: AsyncIterable<Uint8Array>,
  position: number,
): AsyncGenerator<Uint8Array> {
  const dumper = hexDumper(position)
  for await (const chunk of chunks) {
    const lines = dumper.add(chunk)
    if (lines !== '') yield Buffer.from(lines)
  }
  yield Buffer.from(dumper.end())
}
