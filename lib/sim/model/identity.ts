// Who the controller says it is: names and identifiers, all made from its serial number.
// Identifiers carry the marks of local use (no vendor has assigned them), and stay the same in every run.

/** A locally administered OUI. */
export const OUI = 0x02_0000

/** 16 and 8 bytes as hexadecimal digits: NGUID and EUI-64 of a namespace. */
export function namespaceIds(
  { serial }: { readonly serial: string },
  nsid: number,
): { nguid: string; eui64: string } {
  const own = hex(hash(serial)) + hex(nsid)
  const oui = OUI.toString(16).padStart(6, '0')
  return {
    nguid: `${own}${oui}${hex(hash(`${serial}/ns`))}00`,
    eui64: `${oui}${hex(hash(serial)).slice(0, 6)}${hex(nsid).slice(4)}`,
  }
}

/** NVM Subsystem NVMe Qualified Name, in the form that is made of a UUID. */
export function subsystemName({ serial }: { readonly serial: string }): string {
  const [a, b, c, d] = ['1', '2', '3', '4'].map((salt) => hex(hash(serial + salt))) as [
    string,
    string,
    string,
    string,
  ]
  return `nqn.2014-08.org.nvmexpress:uuid:${a}-${b.slice(0, 4)}-4${b.slice(5)}-8${c.slice(1, 4)}-${c.slice(4)}${d}`
}

/** FNV-1a, 32 bits. */
export function hash(text: string): number {
  let value = 0x811c_9dc5
  for (const byte of Buffer.from(text)) value = Math.imul(value ^ byte, 0x0100_0193) >>> 0
  return value
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0')
}
