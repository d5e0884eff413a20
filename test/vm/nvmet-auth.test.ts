// DH-HMAC-CHAP with Linux's target, and Linux's host, in a virtual machine whose kernel has it: Debian's 6.12, not its 6.1.

import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { DHCHAP_KEY, formatKey, parseKey } from '../../lib/nvme/tcp/security/keys.ts'
import { runInMachine } from '../../scripts/vm/machine.ts'
import { findParts } from '../../scripts/vm/parts.ts'
import { open, openController } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { leaveOut } from '../support/left-out.ts'
import { NVMET_NQN, type Nvmet, startNvmet } from '../support/nvmet.ts'
import { NQN, startTarget } from '../support/tcp-target.ts'
import { leftOutWithoutNetwork } from './machine-test.ts'

const WHAT = 'DH-HMAC-CHAP with Linux’s NVMe/TCP target'
const HOSTNQN = 'nqn.2024-01.org.example:host'
const inFolder = testFolder()

function missingAuthentication(): string | null {
  const missing = leftOutWithoutNetwork(WHAT)
  const found = findParts()
  if (missing !== null || 'missing' in found) return missing
  const { modules } = found.parts
  if (fs.existsSync(path.join(modules!, 'kernel/drivers/nvme/common/nvme-auth.ko'))) return null
  const line = 'the kernel in the cache has no nvme-auth: see docs/tcp.md'
  process.stdout.write(`left out, ${WHAT} in the virtual machine: ${line}\n`)
  return line
}

const missing = missingAuthentication()
const keys = [
  [
    'plain',
    formatKey(DHCHAP_KEY, 0, Buffer.alloc(32, 0x31)),
    formatKey(DHCHAP_KEY, 0, Buffer.alloc(32, 0x32)),
  ],
  [
    'sha256',
    formatKey(DHCHAP_KEY, 1, Buffer.alloc(32, 0x33)),
    formatKey(DHCHAP_KEY, 1, Buffer.alloc(32, 0x34)),
  ],
  [
    'sha512',
    formatKey(DHCHAP_KEY, 3, Buffer.alloc(64, 0x35)),
    formatKey(DHCHAP_KEY, 3, Buffer.alloc(64, 0x36)),
  ],
] as const
const CASES = [
  ['plain', 'sha256', 'null'],
  ['sha256', 'sha384', 'ffdhe2048'],
  ['sha512', 'sha512', 'ffdhe4096'],
] as const

/** A host of each name, and of its own key, hash and group. */
const SET_UP = [
  'modprobe nvme-auth 2>/dev/null || true',
  'for m in hmac sha256_generic sha512_generic dh_generic ffdhe; do modprobe $m 2>/dev/null || true; done',
  'echo 0 >subsystems/$NQN/attr_allow_any_host',
  ...CASES.flatMap(([name, hash, group]) => {
    const [, host, controller] = keys.find(([one]) => one === name)!
    const folder = `hosts/${HOSTNQN}-${name}`
    return [
      `mkdir ${folder}`,
      `echo '${host}' >${folder}/dhchap_key`,
      `echo '${controller}' >${folder}/dhchap_ctrl_key`,
      `echo 'hmac(${hash})' >${folder}/dhchap_hash`,
      `echo ${group} >${folder}/dhchap_dhgroup`,
      `ln -s /sys/kernel/config/nvmet/${folder} subsystems/$NQN/allowed_hosts/`,
    ]
  }),
].join('\n')

function file(name: string, text: string): string {
  const at = inFolder(name)
  fs.writeFileSync(at, `${text}\n`, { mode: 0o600 })
  return at
}

const addressOf = (target: Nvmet, name: string, query = '') =>
  target.address(query).replace(`hostnqn=${HOSTNQN}-plain`, `hostnqn=${HOSTNQN}-${name}`)

const HOSTID = '6f9619ff-8b86-d011-b42d-00cf4fc964ff'

/** Connects, reads a block, lets go; prints what came of it. */
const connect = (index: number, port: number, name: string, secrets: string) => `
if echo "transport=tcp,traddr=10.0.2.2,trsvcid=${port},nqn=${NQN},hostnqn=${HOSTNQN}-${name},hostid=${HOSTID},nr_io_queues=1,${secrets}" >/dev/nvme-fabrics
then
  d=/dev/$(ls /sys/class/nvme | head -n 1)n1
  for i in 1 2 3 4 5 6 7 8 9 10; do [ -b $d ] || sleep 0.5; done
  dd if=$d of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null && echo ${index} read
  for c in /sys/class/nvme/nvme*; do echo 1 >$c/delete_controller; done
else echo ${index} refused
fi
`

if (missing !== null) {
  leaveOut(missing, WHAT)
} else {
  test.serial(`${WHAT}: ${NVMET_NQN}`, async (t) => {
    t.timeout(400_000)
    const [, plain] = keys[0]
    process.env.UNVME_DHCHAP_SECRET = plain
    const target = await startNvmet({ setUp: SET_UP, host: `${HOSTNQN}-plain` })
    delete process.env.UNVME_DHCHAP_SECRET
    try {
      for (const [name, hash, group] of CASES) {
        const [, host, controller] = keys.find(([one]) => one === name)!
        const host1 = file(`${name}.host`, host)
        const own = file(`${name}.ctrl`, controller)
        const wrong = file(`${name}.wrong`, formatKey(DHCHAP_KEY, 0, Buffer.alloc(32, 1)))
        // Both ways, and no weaker than what the target was set to.
        const both = { dhchapSecretFile: host1, dhchapCtrlSecretFile: own, qcount: 2 }
        const ns = await open(addressOf(target, name, `dhhash=${hash}&dhgroup=${group}`), both)
        const data = Buffer.alloc(64 * 1024, 7)
        await ns.promises.write(data, 0)
        t.deepEqual(await ns.promises.read(Buffer.alloc(data.length), 0), data, name)
        await ns.close()
        const once = { recovery: 'none' } as const
        await (await openController(addressOf(target, name), { ...once, dhchapSecretFile: host1 })).close()
        for (const options of [
          { dhchapSecretFile: wrong },
          { dhchapSecretFile: host1, dhchapCtrlSecretFile: wrong },
          {},
        ]) {
          const opening = openController(addressOf(target, name), { ...once, ...options })
          await t.throwsAsync(
            opening,
            { code: 'ERR_UNVME_AUTHENTICATION' },
            `${name} ${Object.keys(options)}`,
          )
        }
      }
    } finally {
      await target.end()
    }
  })

  test.serial('DH-HMAC-CHAP of Linux’s host with our target, both ways', async (t) => {
    t.timeout(300_000)
    const scripts: string[] = []
    for (const [index, [name, hash, group]] of CASES.entries()) {
      const [, host, controller] = keys.find(([one]) => one === name)!
      const target = await startTarget('sim:?size=4M', {
        dhchap: {
          keyOf: () => parseKey(DHCHAP_KEY, host),
          controllerKey: parseKey(DHCHAP_KEY, controller),
          hashes: [['sha256', 'sha384', 'sha512'].indexOf(hash) + 1],
          groups: [['null', 'ffdhe2048', 'ffdhe3072', 'ffdhe4096'].indexOf(group)],
        },
      })
      t.teardown(() => target.close())
      const secrets = `dhchap_secret=${host}`
      scripts.push(connect(2 * index, target.port, name, secrets))
      scripts.push(connect(2 * index + 1, target.port, name, `${secrets},dhchap_ctrl_secret=${controller}`))
      if (index === 0) scripts.push(connect(9, target.port, name, `dhchap_secret=${controller}`))
    }
    const { status, stdout, stderr, console } = await runInMachine({
      command: [
        ...['sh', '-c'],
        `modprobe virtio_net
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
modprobe nvme-tcp
${scripts.join('')}
dmesg | grep -i nvme >&2`,
      ],
      driver: 'none',
      qemu: ['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0,addr=1e.0,romfile='],
    })
    t.is(status, 0, stderr)
    const lines = ['0 read', '1 read', '9 refused', '2 read', '3 read', '4 read', '5 read']
    t.deepEqual(stdout.trim().split('\n'), lines, `${stderr}\n${console}`)
    t.regex(stderr, /authenticated with hash hmac\(sha512\) dhgroup ffdhe4096/)
  })
}
