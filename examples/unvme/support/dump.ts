// Hex dumps on standard output, in the form of `unvme read --hex`: rows that repeat are a single `*`.
// Trade-off: for what fits in memory.

import { hexDump } from '../../../src/cli/hex.ts'

/** Prints bytes that belong at a byte of the namespace. */
export async function printDump(data: Buffer, position: number): Promise<void> {
  for await (const lines of hexDump(once(data), position)) process.stdout.write(lines)
}

async function* once(data: Buffer): AsyncGenerator<Buffer> {
  yield data
}
