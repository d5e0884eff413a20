// nvme-cli's options, command by command: each is taken here, or refused with a reason of its own.

import test from 'ava'
import { commands } from '../../src/cli/commands/index.ts'
import { createProgram } from '../../src/cli/program.ts'
import { unvme } from './command.ts'

// As nvme-cli 2.3 of Debian has them; `=` where an option takes a value.
const OPTIONS: Readonly<Record<string, string>> = {
  list: '--output-format=,-o --verbose,-v',
  'list-subsys': '--output-format=,-o --verbose,-v',
  discover:
    '--transport=,-t --traddr=,-a --trsvcid=,-s --host-traddr=,-w --host-iface=,-f --hostnqn=,-q --hostid=,-I --raw=,-r --persistent,-p --keep-alive-tmo=,-k --hdr-digest,-g --data-digest,-G --output-format=,-o',
  'gen-dhchap-key': '--secret=,-s --key-length=,-l --nqn=,-n --hmac=,-m',
  'check-dhchap-key': '--key=,-k',
  'gen-tls-key': '--secret=,-s --hmac=,-m',
  'check-tls-key': '--key=,-k',
  'id-ctrl': '--vendor-specific,-v --output-format=,-o --raw-binary,-b --human-readable,-H',
  'id-ns':
    '--namespace-id=,-n --force --vendor-specific,-v --raw-binary,-b --output-format=,-o --human-readable,-H',
  'list-ns': '--namespace-id=,-n --csi=,-y --all,-a --output-format=,-o',
  'ns-descs': '--namespace-id=,-n --output-format=,-o --raw-binary,-b',
  'list-ctrl': '--cntid=,-c --namespace-id=,-n --output-format=,-o',
  'cmdset-ind-id-ns': '--namespace-id=,-n --raw-binary,-b --output-format=,-o --human-readable,-H',
  'get-lba-status':
    '--namespace-id=,-n --start-lba=,-s --max-dw=,-m --action=,-a --range-len=,-l --timeout=,-t --output-format=,-o',
  'show-regs': '--output-format=,-o --human-readable,-H',
  'smart-log': '--namespace-id=,-n --output-format=,-o --raw-binary,-b --human-readable,-H',
  'error-log': '--log-entries=,-e --output-format=,-o --raw-binary,-b',
  'fw-log': '--output-format=,-o --raw-binary,-b',
  'effects-log': '--output-format=,-o --human-readable,-H --raw-binary,-b --csi=,-c',
  'self-test-log': '--dst-entries=,-e --output-format=,-o --verbose,-v',
  'sanitize-log': '--rae,-r --output-format=,-o --human-readable,-H --raw-binary,-b',
  'changed-ns-list-log': '--output-format=,-o --raw-binary,-b',
  'ana-log': '--groups,-g --output-format=,-o',
  'get-log':
    '--namespace-id=,-n --log-id=,-i --log-len=,-l --aen=,-a --lpo=,-o --lsp=,-s --lsi=,-S --rae,-r --uuid-index=,-U --raw-binary,-b --csi=,-y --ot,-O',
  'telemetry-log': '--output-file=,-o --host-generate=,-g --controller-init,-c --data-area=,-d',
  'persistent-event-log': '--action=,-a --log_len=,-l --output-format=,-o --raw-binary,-b',
  'get-feature':
    '--feature-id=,-f --namespace-id=,-n --sel=,-s --data-len=,-l --raw-binary,-b --cdw11=,-c --uuid-index=,-U --human-readable,-H',
  'set-feature':
    '--namespace-id=,-n --feature-id=,-f --value=,-v --cdw12=,-c --uuid-index=,-U --data-len=,-l --data=,-d --save,-s',
  'device-self-test': '--namespace-id=,-n --self-test-code=,-s --wait,-w',
  format:
    '--namespace-id=,-n --timeout=,-t --lbaf=,-l --ses=,-s --pi=,-i --pil=,-p --ms=,-m --reset,-r --force --block-size=,-b',
  sanitize: '--no-dealloc,-d --oipbp,-i --owpass=,-n --ause,-u --sanact=,-a --ovrpat=,-p',
  'fw-download': '--fw=,-f --xfer=,-x --offset=,-o --progress,-p --ignore-ovr,-i',
  'fw-commit': '--slot=,-s --action=,-a --bpid=,-b',
  'create-ns':
    '--nsze=,-s --ncap=,-c --flbas=,-f --dps=,-d --nmic=,-m --anagrp-id=,-a --nvmset-id=,-i --block-size=,-b --timeout=,-t --csi=,-y --lbstm=,-l --nsze-si=,-S --ncap-si=,-C',
  'delete-ns': '--namespace-id=,-n --timeout=,-t',
  'attach-ns': '--namespace-id=,-n --controllers=,-c',
  'detach-ns': '--namespace-id=,-n --controllers=,-c',
  'admin-passthru':
    '--opcode=,-o --flags=,-f --prefill=,-p --rsvd=,-R --namespace-id=,-n --data-len=,-l --metadata-len=,-m --timeout=,-t --cdw2=,-2 --cdw3=,-3 --cdw10=,-4 --cdw11=,-5 --cdw12=,-6 --cdw13=,-7 --cdw14=,-8 --cdw15=,-9 --input-file=,-i --metadata=,-M --raw-binary,-b --show-command,-s --dry-run,-d --read,-r --write,-w --latency,-T',
  'io-passthru':
    '--opcode=,-o --flags=,-f --prefill=,-p --rsvd=,-R --namespace-id=,-n --data-len=,-l --metadata-len=,-m --timeout=,-t --cdw2=,-2 --cdw3=,-3 --cdw10=,-4 --cdw11=,-5 --cdw12=,-6 --cdw13=,-7 --cdw14=,-8 --cdw15=,-9 --input-file=,-i --metadata=,-M --raw-binary,-b --show-command,-s --dry-run,-d --read,-r --write,-w --latency,-T',
  read: '--namespace-id=,-n --start-block=,-s --block-count=,-c --data-size=,-z --metadata-size=,-y --ref-tag=,-r --data=,-d --metadata=,-M --prinfo=,-p --app-tag-mask=,-m --app-tag=,-a --storage-tag=,-g --limited-retry,-l --force-unit-access,-f --storage-tag-check,-C --dir-type=,-T --dir-spec=,-S --dsm=,-D --show-command,-v --dry-run,-w --latency,-t --force',
  write:
    '--namespace-id=,-n --start-block=,-s --block-count=,-c --data-size=,-z --metadata-size=,-y --ref-tag=,-r --data=,-d --metadata=,-M --prinfo=,-p --app-tag-mask=,-m --app-tag=,-a --storage-tag=,-g --limited-retry,-l --force-unit-access,-f --storage-tag-check,-C --dir-type=,-T --dir-spec=,-S --dsm=,-D --show-command,-v --dry-run,-w --latency,-t --force',
  compare:
    '--namespace-id=,-n --start-block=,-s --block-count=,-c --data-size=,-z --metadata-size=,-y --ref-tag=,-r --data=,-d --metadata=,-M --prinfo=,-p --app-tag-mask=,-m --app-tag=,-a --storage-tag=,-g --limited-retry,-l --force-unit-access,-f --storage-tag-check,-C --dir-type=,-T --dir-spec=,-S --dsm=,-D --show-command,-v --dry-run,-w --latency,-t --force',
  'verify-blocks':
    '--namespace-id=,-n --start-block=,-s --block-count=,-c --limited-retry,-l --force-unit-access,-f --prinfo=,-p --ref-tag=,-r --app-tag=,-a --app-tag-mask=,-m --storage-tag=,-S --storage-tag-check,-C',
  flush: '--namespace-id=,-n',
  'write-zeroes':
    '--namespace-id=,-n --start-block=,-s --block-count=,-c --deac,-d --limited-retry,-l --force-unit-access,-f --prinfo=,-p --ref-tag=,-r --app-tag-mask=,-m --app-tag=,-a --storage-tag=,-S --storage-tag-check,-C',
  dsm: '--namespace-id=,-n --ctx-attrs=,-a --blocks=,-b --slbs=,-s --ad,-d --idw,-w --idr,-r --cdw11=,-c',
}

// What later versions of 2.x have beside these, or call otherwise.
const LATER: Readonly<Record<string, string>> = {
  'id-ctrl': '--vendor-specific,-V --verbose',
  'id-ns': '--vendor-specific,-V --verbose',
  'smart-log': '--verbose,-v',
  'get-log': '--output-format=,-o --lpo=,-L --xfer-len=,-x',
  'get-feature': '--output-format=,-o --verbose,-v',
  'set-feature': '--value=,-V',
  'telemetry-log': '--output-file=,-O --rae,-r',
  'create-ns': '--endg-id=,-e',
  'changed-ns-list-log': '--rae,-r',
  read: '--show-command,-V',
  write: '--show-command,-V',
  compare: '--show-command,-V',
}

// Letters that stand for something else here, each with why.
const OTHERWISE: Readonly<Record<string, string>> = {
  'get-log -o': 'the format, as in later versions, which have the offset at -L',
  'read -y': 'yes, as of every command that asks',
  'write -y': 'yes, as of every command that asks',
}

const program = createProgram(commands, async () => {})

for (const [version, table] of Object.entries({ '2.3': OPTIONS, later: LATER })) {
  test(`every command takes or refuses the options of nvme-cli ${version}`, (t) => {
    for (const [name, line] of Object.entries(table)) {
      const { options } = program.commands.find((command) => command.name() === name)!
      for (const words of line.split(' ').filter(Boolean)) {
        const [long = '', short] = words.split(',')
        for (const flag of [long.replace('=', ''), ...(short === undefined ? [] : [short])]) {
          if (OTHERWISE[`${name} ${flag}`] !== undefined && version === '2.3') continue
          const found = options.find((option) => option.long === flag || option.short === flag)
          t.truthy(found, `${name} ${flag}`)
          t.is(found?.required, long.endsWith('='), `${name} ${flag}: takes a value`)
        }
      }
    }
  })
}

test('other spellings are the option itself, and the last one counts', async (t) => {
  const read = async (line: string) => {
    const { code, stdout, stderr } = await unvme(line.split(' '))
    t.is(stderr, '', line)
    t.is(code, 0, line)
    return stdout.length
  }
  const address = 'sim:?size=1M&ns=2'
  t.is(await read(`read ${address} -n 2 -s 1 -c 3`), 1536)
  t.is(await read(`read ${address} --namespace 2 --start-block 1 --block-count 2`), 1024)
  t.is(await read(`read ${address} --namespace-id 1 --slba 1 -z 512 -c 1 -t`), 512)
  const { stdout } = await unvme(['set-feature', 'sim:?size=1M', '-f', '4', '-V', '0x150', '-s'])
  t.regex(stdout, /value:0x00000150/)
  t.regex((await unvme(['id-ctrl', 'sim:?size=1M', '-V'])).stdout, /\nvs\[\]:\n/)
})

test('-V is the version alone, and an option of its own behind a command', async (t) => {
  const { stdout: version } = await unvme(['--version'])
  for (const words of [['-V'], ['version']]) t.is((await unvme(words)).stdout, version, words.join(' '))
  const own = await unvme(['list', '-V'])
  t.is(own.code, 2)
  t.is(own.stdout, '')
  t.regex(own.stderr, /unknown option '-V'/)
})

test('counts of blocks are one-based, and what nvme-cli counts from zero is found out', async (t) => {
  const zero = await unvme(['read', 'sim:?size=1M', '-c', '0', '-z', '512'])
  t.is(zero.code, 2)
  t.regex(zero.stderr, /0 blocks: counts are one-based here, and 1 is what nvme-cli calls 0/)
  const both = await unvme(['read', 'sim:?size=1M', '-c', '7', '-z', '4096'])
  t.is(both.code, 2)
  t.regex(both.stderr, /--nlb 7 is 3584 bytes \(counts are one-based\), --bytes is 4096/)
})

test("verify and copy say where nvme-cli's command of that name is", async (t) => {
  const verify = await unvme(['verify', 'sim:?size=1M', '-s', '0', '-c', '1'])
  t.is(verify.code, 2)
  t.regex(verify.stderr, /nvme-cli's verify is unvme verify-blocks/)
  t.regex(
    (await unvme(['copy', 'sim:', '--sdlba', '0'])).stderr,
    /nvme-cli's copy within a device is not here/,
  )
})

test('refused options say why', async (t) => {
  const { code, stderr } = await unvme(['read', 'sim:?size=1M', '--prinfo', '1'])
  t.is(code, 2)
  t.regex(stderr, /^unvme: option '-p, --prinfo <N>': unvme sends no tags .*\(ERR_UNVME_USAGE\)\n$/)
  t.regex((await unvme(['io-passthru', 'sim:', '-o', '2', '-2', '1'])).stderr, /the driver sends 0/)
})

test('version, get-ns-id and list-subsys', async (t) => {
  const id = await unvme(['get-ns-id', 'sim:?size=1M&ns=4,7&nsid=7'])
  t.is(id.stdout, 'sim:?size=1M&ns=4,7&nsid=7: namespace-id:7\n')
  const one = await unvme(['list-subsys', 'sim:?size=1M', '-o', 'json'])
  const [{ NQN, Paths }] = JSON.parse(one.stdout).Subsystems
  t.regex(NQN, /^nqn\./)
  t.like(Paths[0], { Transport: 'sim', State: 'live' })
})
