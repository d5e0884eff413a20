// Loaded before the command (`--import`), so that its controller answers some admin commands with odd data:
// ODD_DATA is JSON, by opcode and the lowest byte of dword 10 (`06 02`), of answers as hexadecimal digits or `refused`.
// The driver, the command line and the software controller are the real ones; only what the driver gets from
// Identify, Get Log Page and Get Features is replaced.

import { AdminQueue } from '../../lib/nvme/host/admin-queue.ts'

const answers = JSON.parse(process.env.ODD_DATA ?? '{}') as Readonly<Record<string, string>>
const { submit } = AdminQueue.prototype

const digits = (value: number) => (value & 0xff).toString(16).padStart(2, '0')

AdminQueue.prototype.submit = async function (command, signal) {
  const { opcode, cdw10 = 0, cdw12 = 0, data } = command
  const answer = answers[`${digits(opcode)} ${digits(cdw10)}`]
  if (answer === undefined) return submit.call(this, command, signal)
  // No controller knows an identifier of FFh.
  if (answer === 'refused') return submit.call(this, { ...command, cdw10: cdw10 | 0xff }, signal)
  const bytes = Buffer.from(answer, 'hex')
  // Of Get Log Page dword 12 is the offset.
  data?.fill(0).set(bytes.subarray(opcode === 2 ? cdw12 : 0).subarray(0, data.length))
  return { result: 0 }
}
