// Addresses below /dev, as far as they can be tried without a device: with one see test/vm/kernel.test.ts.

import test from 'ava'
import { open } from '../../src/index.ts'

const WRONG: [address: string, code: string, text: RegExp][] = [
  ['/dev/nvme77', 'ERR_UNVME_ADDRESS', /^\/dev\/nvme77: there is no such device$/],
  ['/dev/null', 'ERR_UNVME_ADDRESS', /^\/dev\/null is no NVMe device of the kernel/],
  ['/dev/shm', 'ERR_UNVME_ADDRESS', /no NVMe device of the kernel/],
  ['/dev/ng0n1?sqpol', 'ERR_UNVME_ADDRESS', /unknown option 'sqpol'; there are nsid, sqpoll, io$/],
  ['/dev/ng0n1?sqpoll=2', 'ERR_UNVME_ADDRESS', /bad value sqpoll=2; 0 or 1 is needed/],
  ['/dev/ng0n1?io=aio', 'ERR_UNVME_ADDRESS', /bad value io=aio; io_uring or ioctl is needed/],
  ['/dev/ng0n1?sqpoll=1&io=ioctl', 'ERR_UNVME_ADDRESS', /sqpoll is of io_uring/],
  ['/dev/nvme0?nsid=0', 'ERR_UNVME_ADDRESS', /bad value nsid=0/],
  ['/dev/nvme0?nsid=1&nsid=2', 'ERR_UNVME_ADDRESS', /'nsid' is given twice/],
  ['/dev/x\0', 'ERR_UNVME_ADDRESS', /NUL/],
]

for (const [address, code, text] of WRONG) {
  test(`open: ${JSON.stringify(address)} is refused`, async (t) => {
    const error = await t.throwsAsync(open(address), { code })
    t.regex(error.message, text)
  })
}
