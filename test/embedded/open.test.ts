// Opening: what is no address, what is there already, and that a failure leaves nothing behind.

import fs from 'node:fs'
import test from 'ava'
import { type NvmeError, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'

const file = testFolder()

const refusals: [address: unknown, code: string, message: RegExp][] = [
  ['', 'ERR_UNVME_ADDRESS', /unknown address ""/],
  ['nvme0', 'ERR_UNVME_ADDRESS', /unknown address "nvme0"/],
  ['/dev/nvme99n1', 'ERR_UNVME_ADDRESS', /^\/dev\/nvme99n1: there is no such device$/],
  ['0a:00.9', 'ERR_UNVME_ADDRESS', /'0a:00.9' is no PCI name/],
  ['ffff:ff:1f.7', 'ERR_UNVME_ADDRESS', /ffff:ff:1f.7: this machine has no such PCI function/],
  ['sim:?sise=1M', 'ERR_UNVME_ADDRESS', /unknown option 'sise'/],
  ['sim:?size=1M&nsid=2', 'ERR_UNVME_ADDRESS', /no active namespace 2; active: 1/],
  ['vfio-user:/nowhere', 'ERR_UNVME_ADDRESS', /\/nowhere: there is no such socket/],
  [7, 'ERR_INVALID_ARG_TYPE', /open: address must be a string, received number/],
  [undefined, 'ERR_INVALID_ARG_TYPE', /received undefined/],
]
for (const [address, code, message] of refusals) {
  test(`refused: ${JSON.stringify(address)}`, async (t) => {
    await t.throwsAsync(open(address as string), { code, message })
  })
}

test('an image that is missing or too short is named, and left as it is', async (t) => {
  const missing = file('missing.img')
  await t.throwsAsync(open(`sim:${missing}`), {
    code: 'ERR_UNVME_IMAGE',
    message: /missing.img does not exist/,
  })
  t.false(fs.existsSync(missing))
  const short = file('short.img')
  fs.writeFileSync(short, Buffer.alloc(4096, 1))
  await t.throwsAsync(open(`sim:${short}?size=1M`), { code: 'ERR_UNVME_IMAGE', message: /has 4096 bytes/ })
  t.deepEqual(fs.readFileSync(short), Buffer.alloc(4096, 1))
  await using ns = await open(`sim:${short}`)
  t.is(ns.blockcount, 8)
})

test('options that can not be granted close what was opened: it can be opened again', async (t) => {
  const address = `sim:${file('options.img')}?size=1M&qcount=2&qsize=16`
  for (const options of [{ qcount: 3 }, { qsize: 17 }, { nsid: 2 }]) {
    await t.throwsAsync(open(address, options), undefined, JSON.stringify(options))
  }
  await using ns = await open(address, { qcount: 2, qsize: 16 })
  t.is(ns.qcount, 2)
})

test('maxTransferBytes bounds each command, down to one page, where the device allows more', async (t) => {
  for (const [query, bytes, maxbpio] of [
    ['', 4096, 8],
    ['&mdts=0', 4096, 8],
    ['&mdts=0', 12_288, 24],
    ['&mdts=0', 5000, 8],
    ['&mdts=1', 2 ** 20, 16],
    ['&mdts=0', undefined, 2048],
    ['&mdts=0&lba=4096', 4096, 1],
  ] as const) {
    const address = `sim:?size=16M${query}&fault=read@${2 * maxbpio - 1}:status=281h`
    await using ns = await open(address, bytes === undefined ? {} : { maxTransferBytes: bytes })
    t.is(ns.maxbpio, maxbpio, address)
    const error = await t.throwsAsync<NvmeError>(ns.promises.read(ns.alloc(2 ** 21), 0, 2 * maxbpio))
    t.like(error, { slba: maxbpio, nlb: maxbpio }, address)
  }
})

test('open: one image is one controller by whatever name, before and after it is there', async (t) => {
  const image = file('one.img')
  const [soft, hard] = [file('soft.img'), file('hard.img')]
  fs.symlinkSync(image, soft)
  await using first = await open(`sim:${soft}?size=1M&ns=2`)
  fs.linkSync(image, hard)
  await using second = await open(`sim:${image}`)
  await using third = await open(`sim:${hard}`, { nsid: 2 })
  t.is(second.controller, first.controller)
  t.is(third.controller, first.controller)
  const [a, b] = await Promise.all([open(`sim:${file('two.img')}?size=1M`), open(`sim:${file('two.img')}`)])
  t.is(a.controller, b.controller)
  await Promise.all([a.close(), b.close()])
  // Another file under the old name is another controller.
  fs.renameSync(image, file('moved.img'))
  fs.writeFileSync(image, Buffer.alloc(2 ** 21))
  await using other = await open(`sim:${image}`)
  t.not(other.controller, first.controller)
})

test('an image that is open is the same controller: an address with other options is refused', async (t) => {
  const image = file('shared.img')
  await using first = await open(`sim:${image}?size=1M&ns=2`)
  await using second = await open(`sim:${image}?ns=2&size=1M&nsid=2`)
  await using third = await open(`sim:${image}`, { nsid: 2 })
  t.is(second.controller, first.controller)
  t.is(third.controller, first.controller)
  for (const [query, name] of [
    ['size=1M&ns=2&lba=4096', 'lba'],
    ['size=1M', 'nsids'],
    ['size=1M&ns=2&latency=1ms', 'latency'],
  ]) {
    await t.throwsAsync(open(`sim:${image}?${query}`), {
      code: 'ERR_UNVME_IN_USE',
      message: new RegExp(`open already as .*, which differs in ${name}`),
    })
  }
  await first.promises.read(Buffer.alloc(512), 0)
})
