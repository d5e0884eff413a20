// What Fabrics adds: addresses, names, Connect's data, the discovery log.

import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { isNqn, parseTcpPaths } from '../../lib/nvme/tcp/address.ts'
import {
  decodeConnectData,
  decodeDiscoveryLog,
  encodeConnectData,
  encodeDiscoveryLog,
} from '../../lib/nvme/tcp/fabrics.ts'
import { findHostIdentity } from '../../lib/nvme/tcp/host-identity.ts'
import { testFolder } from '../support/folder.ts'

const inFolder = testFolder()
const NQN = 'nqn.2024-01.org.example:disk'

/** Of an address with one host. */
const parseTcpAddress = (text: string) => parseTcpPaths(text)[0]!

test('parseTcpPaths finds host, port, name and options', (t) => {
  t.like(parseTcpAddress(`nvme+tcp://10.0.0.1/${NQN}`), {
    ...{
      host: '10.0.0.1',
      port: 4420,
      subnqn: NQN,
      nsid: undefined,
      hdgst: false,
      ddgst: false,
      kato: 15_000,
    },
  })
  const text = `nvme+tcp://[fe80::1%eth0]:4421/${encodeURIComponent(NQN)}?nsid=7&hdgst=1&ddgst=1&queues=3&kato=0`
  const address = parseTcpAddress(text)
  t.like(address, { host: 'fe80::1%eth0', port: 4421, subnqn: NQN, nsid: 7, hdgst: true, ddgst: true })
  t.like(address, { queues: 3, kato: 0 })
  t.is(address.address, text.replace('nsid=7&', ''))
  t.is(parseTcpAddress(`nvme+tcp://h/${NQN}?nsid=7`).address, `nvme+tcp://h/${NQN}`)
  const uuid = '6F9619FF-8B86-D011-B42D-00CF4FC964FF'
  t.like(parseTcpAddress(`nvme+tcp://h/${NQN}?hostnqn=${NQN}&hostid=${uuid}`), {
    ...{ hostnqn: NQN, hostid: uuid.toLowerCase() },
  })
})

test('parseTcpPaths names what it can not take', (t) => {
  for (const [text, message] of [
    ['nvme+tcp://', /HOST\[:PORT\]/],
    [`nvme+tcp://h`, /HOST/],
    [`nvme+tcp://user@h/${NQN}`, /HOST/],
    [`nvme+tcp://fe80::1/${NQN}`, /brackets/],
    [`nvme+tcp://h:0/${NQN}`, /no port 0/],
    [`nvme+tcp://h:70000/${NQN}`, /no port 70000/],
    ['nvme+tcp://h/disk', /'disk' is no NQN/],
    [`nvme+tcp://h/nqn.2024-01.${'x'.repeat(220)}`, /232 bytes, at most 223/],
    ['nvme+tcp://h/nqn%', /percent-encoded/],
    [`nvme+tcp://h/${NQN}?nsid=0`, /bad value nsid=0/],
    [`nvme+tcp://h/${NQN}?hdgst=2`, /bad value hdgst=2/],
    [`nvme+tcp://h/${NQN}?compress=1`, /unknown option 'compress'/],
    [`nvme+tcp://h/${NQN}?tls=2`, /bad value tls=2/],
    [`nvme+tcp://h/${NQN}?dhhash=md5`, /bad value dhhash=md5/],
    [`nvme+tcp://h/${NQN}?dhchap=`, /bad value dhchap=/],
    [`nvme+tcp://h/${NQN}?kato=1&kato=1`, /'kato' is given twice/],
    [`nvme+tcp://h/${NQN}?hostnqn=me`, /bad value hostnqn=me/],
    [`nvme+tcp://h/${NQN}?hostid=1`, /bad value hostid=1/],
  ] as const) {
    t.throws(() => parseTcpAddress(text), { code: 'ERR_UNVME_ADDRESS', message }, text)
  }
})

test('parseTcpPaths finds every host, with the options of all, and refuses what is no list', (t) => {
  const paths = parseTcpPaths(`nvme+tcp://a,[fe80::1]:4421,b:4422/${NQN}?hdgst=1&nsid=2&policy=queue-depth`)
  t.deepEqual(
    paths.map(({ host, port }) => `${host} ${port}`),
    ['a 4420', 'fe80::1 4421', 'b 4422'],
  )
  t.true(paths.every((path) => path.hdgst && path.nsid === 2 && path.policy === 'queue-depth'))
  t.is(paths[1]!.address, `nvme+tcp://[fe80::1]:4421/${NQN}?hdgst=1&policy=queue-depth`)
  for (const [text, message] of [
    [`nvme+tcp://a,/${NQN}`, /HOST\[:PORT\]/],
    [`nvme+tcp://a,b:0/${NQN}`, /no port 0/],
    [`nvme+tcp://a,b,A:4420/${NQN}`, /a port 4420 .* is given twice/],
    [`nvme+tcp://a,b/${NQN}?kato=0`, /kato=0/],
    [`nvme+tcp://a,b/${NQN}?policy=numa`, /bad value policy=numa/],
  ] as const) {
    t.throws(() => parseTcpPaths(text), { code: 'ERR_UNVME_ADDRESS', message }, text)
  }
})

test('isNqn knows the two forms', (t) => {
  t.true(isNqn('nqn.2014-08.org.nvmexpress:uuid:6f9619ff-8b86-d011-b42d-00cf4fc964ff'))
  t.true(isNqn('nqn.2014-08.org.nvmexpress.discovery'))
  t.false(isNqn('iqn.2014-08.org.example'))
  t.false(isNqn('nqn.2014-08.a b'))
})

test('Connect’s data and the discovery log come back as they were', (t) => {
  const data = { hostid: new Uint8Array(16).fill(7), cntlid: 0xffff, subnqn: NQN, hostnqn: `${NQN}-host` }
  t.deepEqual(decodeConnectData(encodeConnectData(data)), data)
  const full = encodeConnectData(data).fill(0x41, 256, 512)
  t.throws(() => decodeConnectData(full), { code: 'ERR_UNVME_DECODE', message: /SUBNQN/ })
  const record = {
    ...{ trtype: 3, adrfam: 1, subtype: 2, treq: 0, portid: 1, cntlid: 0xffff, asqsz: 32, eflags: 0 },
    ...{ trsvcid: '4420', subnqn: NQN, traddr: '10.0.0.1', sectype: 0 },
  }
  const log = { genctr: 2 ** 33 + 5, records: [record, { ...record, traddr: 'fe80::1', adrfam: 2 }] }
  t.deepEqual(decodeDiscoveryLog(encodeDiscoveryLog(log)), log)
  t.throws(() => decodeDiscoveryLog(encodeDiscoveryLog(log).subarray(0, 2048)), { code: 'ERR_UNVME_DECODE' })
})

test.serial('findHostIdentity takes what is given, the system’s, and what it made before', (t) => {
  const folder = path.dirname(inFolder('hostnqn'))
  const given = { hostnqn: NQN, hostid: '6f9619ff-8b86-d011-b42d-00cf4fc964ff' }
  t.deepEqual(findHostIdentity(given, folder), given)
  const before = process.env.XDG_CONFIG_HOME
  process.env.XDG_CONFIG_HOME = path.join(folder, 'config')
  t.teardown(() => {
    if (before === undefined) delete process.env.XDG_CONFIG_HOME
    else process.env.XDG_CONFIG_HOME = before
  })
  const made = findHostIdentity({}, folder)
  t.regex(made.hostnqn, /^nqn\.2014-08\.org\.nvmexpress:uuid:/)
  t.true(made.hostnqn.endsWith(made.hostid))
  t.deepEqual(findHostIdentity({}, folder), made)
  t.deepEqual(fs.readdirSync(path.join(folder, 'config/unvme')).sort(), ['hostid', 'hostnqn'])
  fs.writeFileSync(path.join(folder, 'hostnqn'), `${NQN}\n`)
  t.deepEqual(
    findHostIdentity({}, folder),
    { ...given, hostid: made.hostid },
    'a name alone has the user’s id',
  )
  fs.writeFileSync(path.join(folder, 'hostid'), given.hostid.toUpperCase())
  t.deepEqual(findHostIdentity({}, folder), given)
  t.is(findHostIdentity({ hostid: made.hostid }, folder).hostid, made.hostid)
})
