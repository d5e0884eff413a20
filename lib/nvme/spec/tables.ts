// Tables of what the specification numbers: codes with their names, and words of bits with what each bit means.

type CodeTable = Readonly<Record<string, readonly [code: number, ...rest: unknown[]]>>
/** A table's constants: the code of each row. */
export type Codes<T extends CodeTable> = { readonly [K in keyof T]: T[K][0] }

export function codesOf<const T extends CodeTable>(table: T): Codes<T> {
  return Object.fromEntries(Object.entries(table).map(([key, [code]]) => [key, code])) as Codes<T>
}

/** Codes with the specification's names: constants to compare with, and the name of each code. */
export function named<const T extends Readonly<Record<string, readonly [code: number, name: string]>>>(
  table: T,
): { codes: Codes<T>; names: ReadonlyMap<number, string> } {
  return { codes: codesOf(table), names: new Map(Object.values(table)) }
}

/** What a value of some bits means: a name (Supported or Not Supported), or what the value says. */
export type Meaning = string | ((value: number) => string)
/** Some bits of a word: from `high` to `low`. */
export type BitRow = readonly [high: number, low: number, meaning: Meaning]
type BitTable = Readonly<Record<string, readonly [bit: number, meaning: Meaning] | BitRow>>

/** A mask for each row, to test a word with, and the rows in their order, to write a word with. */
export type Bits<T> = { readonly [K in keyof T]: number } & { readonly rows: readonly BitRow[] }

/** The bits of a word from their table: one bit, or a range of them, and what it means. */
export function bitTable<const T extends BitTable>(table: T): Bits<T> {
  const rows = Object.values(table).map((row): BitRow => (row.length === 3 ? row : [row[0], row[0], row[1]]))
  const masks = Object.keys(table).map((key, i) => [key, maskOf(rows[i]!)])
  return { ...(Object.fromEntries(masks) as { [K in keyof T]: number }), rows }
}

function maskOf([high, low]: BitRow): number {
  return ((2 ** (high - low + 1) - 1) << low) >>> 0
}

/** For a bit that means one of two things. */
export const either = (off: string, on: string) => (value: number) => (value === 0 ? off : on)

/** For a bit that answers a question. */
export const yesNo = (what: string) => (value: number) => `${what}: ${value ? 'yes' : 'no'}`

/** For a field of a few values; others are reserved. */
export const oneOf =
  (...meanings: readonly string[]) =>
  (value: number): string =>
    meanings[value] ?? 'Reserved'

/** For a number. */
export const count = (what: string) => (value: number) => `${what}: ${value}`

/** What a field is for a person, and how its value is written. */
export interface Label {
  readonly label: string
  text(value: number | bigint): string
}

export const label = (text: string, write: (value: number) => string = String): Label => ({
  label: text,
  text: write,
})

/** How a field is shown where it is no plain number: in hexadecimal, as a temperature, by its bits, by its label. */
export type Display = 'hex' | 'kelvin' | { readonly rows: readonly BitRow[] } | Label

/** Kelvin, as in logs, thresholds and Identify, in whole degrees Celsius. */
export function celsius(kelvin: number): number {
  return kelvin - 273
}

/** `50°C (323 Kelvin)`. */
export function temperatureText(kelvin: number): string {
  return `${celsius(kelvin)}°C (${kelvin} Kelvin)`
}
