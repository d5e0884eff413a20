// `unvme admin-passthru` and `io-passthru`: any command, dword by dword.
// What the driver itself needs of a command (identifier, data pointers, and with it dwords 2 to 9) can't
// be set; everything else is sent as it is given, and a command that is not known to be harmless asks first.

import { OutOfRangeError, UsageError } from '../../../lib/errors.ts'
import { ADMIN, dataDirection, NVM, opcodeName } from '../../../lib/nvme/spec/opcodes.ts'
import { adminCommand, namespaceIdOption, timeoutOption, withNamespace } from '../admin/command.ts'
import { refuseMetadata } from '../admin/ranges.ts'
import { writeBytes } from '../admin/show.ts'
import { dumpText, dwordText, hexText } from '../admin/text.ts'
import { checkAtEnd, isOutput, type Output, openData, openOutput, withOpen } from '../data.ts'
import { flag, required, type Values, value, valueOr } from '../define.ts'
import { checkTerminal, fields, print } from '../output.ts'
import { byte, dword, size, text } from '../parse.ts'

const dwordOption = (number: number, short: string) => valueOr('DWORD', dword, 0, `dword ${number}`, short)

/** Parses what the driver sends as 0 itself. */
function onlyZero(word: string): number {
  if (Number(word) !== 0) throw new OutOfRangeError(`${word}: the driver sends 0, and nothing else`)
  return 0
}
const zero = (what: string, short: string) =>
  value('N', onlyZero, `${what}: only 0, which the driver sends`, short)

const options = {
  opcode: required('N', byte, 'opcode', 'o'),
  namespaceId: namespaceIdOption(),
  dataLen: valueOr('SIZE', size({ max: 2 ** 20 }), 0, 'bytes of data', 'l'),
  inputFile: value('FILE', text, 'file with the data to send, or for the data that is received', 'i'),
  read: flag("data comes from the device (default: as the opcode's lowest bits say)", 'r'),
  write: flag('data goes to the device', 'w'),
  prefill: valueOr('BYTE', byte, 0, 'what the data is filled with before', 'p'),
  flags: zero('command flags', 'f'),
  rsvd: zero('reserved field', 'R'),
  cdw2: zero('dword 2', '2'),
  cdw3: zero('dword 3', '3'),
  metadataLen: zero('bytes of metadata', 'm'),
  cdw10: dwordOption(10, '4'),
  cdw11: dwordOption(11, '5'),
  cdw12: dwordOption(12, '6'),
  cdw13: dwordOption(13, '7'),
  cdw14: dwordOption(14, '8'),
  cdw15: dwordOption(15, '9'),
  rawBinary: flag('print the data as the device sent it', 'b'),
  showCommand: flag('print the command before it is sent', 's'),
  dryRun: flag('print the command, and do not send it', 'd'),
  latency: flag('print how long it took', 'T'),
}
const refused = { '-M, --metadata <FILE>': 'unvme has no metadata of its own for a command' } as const

type Options = Values<typeof options>

const DETAILS = `Data that is sent comes from --input-file, or from standard input. Data that is received goes to \
--input-file, or is printed as a hex dump. Flags (fused commands, SGLs), metadata and dwords 2 and 3 can't be set.

A command that is not known to be harmless asks first.`

const HARMLESS_ADMIN = new Set<number>([
  ...[ADMIN.GET_LOG_PAGE, ADMIN.IDENTIFY, ADMIN.GET_FEATURES, ADMIN.ABORT, ADMIN.KEEP_ALIVE],
  ...[ADMIN.DEVICE_SELF_TEST, ADMIN.DIRECTIVE_RECEIVE, ADMIN.SECURITY_RECEIVE, ADMIN.GET_LBA_STATUS],
])
const HARMLESS_IO = new Set<number>([NVM.FLUSH, NVM.READ, NVM.COMPARE, NVM.VERIFY, NVM.RESERVATION_REPORT])

/** Commands that carry metadata where a namespace has it. */
const WITH_METADATA = new Set<number>([NVM.READ, NVM.WRITE, NVM.COMPARE])

const adminPassthru = adminCommand({
  name: 'admin-passthru',
  summary: 'Send any admin command, and show its result and data',
  details: DETAILS,
  options: { ...options, timeout: timeoutOption('60 s') },
  refused,
  examples: [
    ['admin-passthru 0a:00.0 -o 6 -l 4096 -4 1', 'Identify Controller'],
    [
      'admin-passthru 0a:00.0 -o 2 -n 0xffffffff -l 512 -4 0x7f0002 -b > smart.bin',
      'the SMART log into a file',
    ],
  ],
  destroys: ({ options }) => question('admin', options),
  async run(context) {
    const { timeout, ...rest } = context.options
    const nsid = context.nsid ?? 0
    await pass('admin', rest, nsid, async (data, dwords) => {
      const limit = timeout === undefined ? {} : { timeout }
      const command = { opcode: rest.opcode, nsid, ...dwords, ...limit, ...(data && { data }) }
      return (await context.handle.admin(command)).result
    })
  },
})

const ioPassthru = adminCommand({
  name: 'io-passthru',
  summary: 'Send any I/O command, and show its result and data',
  details: DETAILS,
  options: { ...options, timeout: timeoutOption('30 s') },
  refused,
  examples: [
    ['io-passthru 0a:00.0 -o 2 -l 4096 -4 100 -6 7', 'read blocks 100 to 107 (dword 12 is zero-based)'],
    ['io-passthru 0a:00.0 -o 1 -l 512 -i block.bin', 'write block 0'],
  ],
  destroys: ({ options }) => question('I/O', options),
  async run(context) {
    await withNamespace(context, (ns, nsid) =>
      pass('I/O', context.options, nsid, async (data, dwords) => {
        if (WITH_METADATA.has(context.options.opcode)) refuseMetadata(ns)
        const buf = data && ns.alloc(data.length).subarray(0, data.length)
        if (buf) data.copy(buf)
        const { opcode } = context.options
        const result = await ns.promises.cmd({ opcode, nsid, ...dwords, ...(buf && { buf }) })
        buf?.copy(data!)
        return result
      }),
    )
  },
})

type Queue = 'admin' | 'I/O'

const nameOf = (queue: Queue, opcode: number) => opcodeName(opcode, { admin: queue === 'admin' })

function question(queue: Queue, { opcode, dryRun }: Options): string | undefined {
  const harmless = queue === 'admin' ? HARMLESS_ADMIN : HARMLESS_IO
  if (dryRun || harmless.has(opcode)) return undefined
  return `Send ${queue} command ${hexText(opcode)} (${nameOf(queue, opcode)}), which may destroy data`
}

type Send = (data: Buffer | undefined, dwords: ReturnType<typeof dwordsOf>) => Promise<number>

function dwordsOf({ cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 }: Options) {
  return { cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 }
}

async function pass(queue: Queue, options: Options, nsid: number, send: Send): Promise<void> {
  const { rawBinary, showCommand, dryRun, inputFile } = options
  const receives = isReceived(options)
  const raw = receives && (inputFile === undefined ? rawBinary : isOutput(inputFile))
  if (raw) checkTerminal()
  if (showCommand || dryRun) print(commandText(queue, options, nsid))
  if (dryRun) return
  const file =
    receives && inputFile !== undefined && options.dataLen > 0 ? await openOutput(inputFile) : undefined
  try {
    await sendAndShow(queue, options, { receives, raw, file }, send)
  } finally {
    await file?.close()
  }
}

/** Where what is received goes. */
interface Going {
  readonly receives: boolean
  readonly raw: boolean
  readonly file: Output | undefined
}

async function sendAndShow(queue: Queue, options: Options, going: Going, send: Send): Promise<void> {
  const { receives, raw, file } = going
  const { opcode, latency } = options
  const data = await dataOf(options, receives)
  const before = performance.now()
  const result = await send(data, dwordsOf(options))
  const microseconds = ((performance.now() - before) * 1000).toFixed(0)
  if (!raw) print(`${nameOf(queue, opcode)} (${queue} command): success, result ${dwordText(result)}`)
  if (latency && !raw) print(`latency: ${microseconds} us`)
  if (data === undefined || !receives) return
  if (file !== undefined) await file.write(data)
  else if (raw) await writeBytes(data)
  else print(dumpText(data))
}

/** Whether data comes from the device: as an option says, or else the opcode. */
function isReceived({ opcode, read, write, dataLen }: Options): boolean {
  if (read && write) throw new UsageError('--read and --write: data goes one way')
  const direction = dataDirection(opcode)
  if ((read && direction === 'write') || (write && direction === 'read')) {
    throw new UsageError(
      `the lowest bits of opcode ${hexText(opcode)} say that data goes ${direction === 'read' ? 'from' : 'to'} the device`,
    )
  }
  if (dataLen > 0 && !read && !write && (direction === 'none' || direction === 'both')) {
    throw new UsageError(`--read or --write says which way the data of opcode ${hexText(opcode)} goes`)
  }
  return read || (!write && direction === 'read')
}

async function dataOf(options: Options, receives: boolean): Promise<Buffer | undefined> {
  const { dataLen, inputFile, prefill } = options
  if (dataLen === 0) return undefined
  const data = Buffer.alloc(dataLen, prefill)
  if (receives) return data
  return withOpen(await openData(inputFile ?? '-'), async (file) => {
    await file.fill(data)
    await checkAtEnd(file, dataLen)
    return data
  })
}

function commandText(queue: Queue, options: Options, nsid: number): string {
  const { opcode, dataLen } = options
  return fields([
    ['opcode', `${hexText(opcode)} (${nameOf(queue, opcode)})`],
    ['nsid', hexText(nsid)],
    ...Object.entries(dwordsOf(options)).map(([name, value]) => [name, dwordText(value)] as const),
    ['data_len', dataLen],
  ])
}

export const passthruCommands = [adminPassthru, ioPassthru]
