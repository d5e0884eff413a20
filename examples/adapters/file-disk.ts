// The partitions of a device, by balena's partitioninfo: nothing is mounted, and nothing written.
//
//   node dist/examples/adapters/file-disk.js [ADDRESS]
//
// Needs the packages file-disk and partitioninfo. Without an address a software controller gets a table with one
// partition first. The disk that partitioninfo is given is an instance of file-disk's own class, which ext2fs takes, too.

import { Disk } from 'file-disk'
import { getPartitions } from 'partitioninfo'
import { open } from 'unvme'
import { fileDisk } from 'unvme/adapters'
import '../support/one-line.ts'

const [address] = process.argv.slice(2)
await using ns = await open(address ?? 'sim:?size=64M')
const disk = fileDisk(Disk, ns, { readOnly: address !== undefined })

if (address === undefined) {
  // An MBR with one entry: Linux, from sector 2048, 32 MiB.
  const table = Buffer.alloc(512)
  table[450] = 0x83
  table.writeUInt32LE(2048, 454)
  table.writeUInt32LE(65_536, 458)
  table.writeUInt16BE(0x55aa, 510)
  await disk.write(table, 0, table.length, 0)
  await disk.flush()
}

const info = await getPartitions(disk, { includeExtended: false, getLogical: true }).catch((error: Error) => {
  console.log(`no partition table: ${error.message}`)
})
for (const { index, offset, size, type } of info?.partitions ?? []) {
  const kind = typeof type === 'number' ? `${type.toString(16)}h` : type
  console.log(`${info!.type} ${index}: ${size} bytes from ${offset}, type ${kind}`)
}
