// Hex dumps on standard output, in the form of `unvme read --hex`: rows that repeat are a single `*`.

import { hexDump } from 'unvme/log'

/** Prints bytes that belong at a byte of the namespace. */
export function printDump(data: Buffer, position: number): void {
  process.stdout.write(hexDump(data, position))
}
