// Ends with a descriptor watched that can be read by then.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { watchDescriptor } from '../../lib/sys/watch-descriptor.ts'

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-watch-'))
const fifo = path.join(folder, 'fifo')
execFileSync('mkfifo', [fifo])
const fd = fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK)
fs.rmSync(folder, { recursive: true })
const watch = watchDescriptor(fd, { readable: true }, () => {})
watch.keepAlive(false)
// Node looks at the loop once more for these.
net.createServer().listen(0, '127.0.0.1').unref()
setInterval(() => {}, 10).unref()
process.on('exit', () => fs.writeSync(fd, '.'))
await new Promise((resolve) => setTimeout(resolve, 30))
console.log('ends')
