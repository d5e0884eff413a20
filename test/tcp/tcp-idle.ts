// Opens a device, reads where it is asked to, and closes nothing.

import { open } from '../../src/index.ts'

const [address, read] = process.argv.slice(2)
const ns = await open(address!)
console.log('open')
if (read) void ns.promises.read(Buffer.alloc(ns.blocksize), 0).then(() => console.log('read'))
