/**
 * Sizes, rates and durations as people write and read them. K, M, G, T, P are powers of 1024 everywhere.
 *
 * The parsers throw {@link UnitError}, whose message says what is wrong and what to type instead.
 *
 * @module
 */

/** What a person typed is not a size, rate or duration. */
export class UnitError extends Error {
  override name = "UnitError";
}

const SIZE_EXPONENTS: Record<string, number> = { "": 0, K: 1, M: 2, G: 3, T: 4, P: 5 };
const SIZE_PATTERN = /^(\d+)(?:\.(\d+))?\s*([kmgtp]?)(?:i?b)?$/i;
const SIZE_HINT = `type a number with K, M, G or T (powers of 1024), e.g. "1G", "4K" or "1.5T"`;
const DURATION_PATTERN = /^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)$/;
const DURATION_UNITS_MS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * Bytes of `text`: "1G", "4K", "1.5T", "512", also with a trailing "B" or "iB".
 *
 * @throws {UnitError} when it is no size, is not a whole number of bytes, or is beyond 2^53 - 1
 */
export function parseSize(text: string): number {
  const match = SIZE_PATTERN.exec(text.trim());
  if (match === null) throw new UnitError(`"${text}" is not a size: ${SIZE_HINT}`);
  const [, whole, fraction = "", unit] = match;
  const factor = 1024 ** SIZE_EXPONENTS[unit.toUpperCase()];
  // In whole numbers, so that no size is rounded: digits × factor / 10^places.
  const scaled = BigInt(whole + fraction) * BigInt(factor);
  const divisor = 10n ** BigInt(fraction.length);
  if (scaled % divisor !== 0n) {
    const lower = Number(scaled / divisor);
    throw new UnitError(
      `"${text}" is not a whole number of bytes: type ${lower} or ${lower + 1}, or drop the fraction`,
    );
  }
  const bytes = Number(scaled / divisor);
  if (!Number.isSafeInteger(bytes)) throw new UnitError(`"${text}" is too large: at most ${2 ** 43 - 1}K is possible`);
  return bytes;
}

/**
 * Bytes per second of `text`: a size with or without "/s". "0", "none" and "unlimited" give 0: no limit.
 *
 * @throws {UnitError} when it is no rate
 */
export function parseRate(text: string): number {
  const trimmed = text.trim();
  if (/^(none|unlimited)$/i.test(trimmed)) return 0;
  const size = trimmed.replace(/(\/s|ps)$/i, "");
  if (!SIZE_PATTERN.test(size)) {
    throw new UnitError(`"${text}" is not a rate: type a size per second, e.g. "100M/s" or "100M", or "unlimited"`);
  }
  const rate = parseSize(size);
  // Nothing a second is what somebody may want who is in a hurry, and 0 stands for the opposite.
  if (rate === 0) {
    throw new UnitError(`"${text}" would be none at all: "pause" stops a resync, "unlimited" takes a limit away`);
  }
  return rate;
}

/**
 * Milliseconds of `text`: "250ms", "3s", "1.5s", "2m" (or "2min"), "1h", "1d".
 *
 * @throws {UnitError} when it is no duration, or not a whole number of milliseconds
 */
export function parseDuration(text: string): number {
  const trimmed = text.trim();
  if (trimmed === "0") return 0;
  const match = DURATION_PATTERN.exec(trimmed);
  if (match === null) {
    const hint = /^\d+(\.\d+)?$/.test(trimmed) ? `it lacks a unit: "${trimmed}ms" or "${trimmed}s"?` : `type e.g. "3s"`;
    throw new UnitError(`"${text}" is not a duration: ${hint} Units are ms, s, m, h and d`);
  }
  const ms = parseFloat(match[1]) * DURATION_UNITS_MS[match[2]];
  const rounded = Math.round(ms);
  if (Math.abs(ms - rounded) > 1e-6) throw new UnitError(`"${text}" is finer than a millisecond: type "${rounded}ms"`);
  if (!Number.isSafeInteger(rounded)) throw new UnitError(`"${text}" is too long`);
  return rounded;
}

/** Bytes for people: "0 B", "1023 B", "1 KiB", "1.5 GiB". */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return "?";
  if (bytes < 0) return "-" + formatBytes(-bytes);
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  // 1023.95 and up would read "1024": the next unit says it better.
  while (unit < units.length - 1 && value >= (unit === 0 ? 1024 : 1023.95)) {
    value /= 1024;
    unit++;
  }
  return `${formatQuantity(value, unit === 0)} ${units[unit]}`;
}

/** Bytes per second for people: "1.5 MiB/s". */
export function formatRate(bytesPerSecond: number): string {
  return formatBytes(Math.round(bytesPerSecond)) + "/s";
}

/** Milliseconds for people, the two largest units: "0 ms", "250 ms", "3.2 s", "2 min 5 s", "3 h 12 min", "4 d 1 h". */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return "?";
  if (ms < 0) return "-" + formatDuration(-ms);
  if (Math.round(ms) < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${formatQuantity(ms / 1000, false)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return twoUnits(seconds, 60, "min", "s");
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return twoUnits(minutes, 60, "h", "min");
  const hours = Math.round(minutes / 60);
  return twoUnits(hours, 24, "d", "h");
}

function twoUnits(count: number, large: number, largeName: string, smallName: string): string {
  const rest = count % large;
  const first = `${Math.floor(count / large)} ${largeName}`;
  return rest === 0 ? first : `${first} ${rest} ${smallName}`;
}

/** Three significant digits, or as many as the whole part has; no zeroes at the end. */
function formatQuantity(value: number, whole: boolean): string {
  if (whole) return String(Math.round(value));
  const text = value.toFixed(value < 10 ? 2 : 1);
  return text.replace(/\.?0+$/, "");
}
