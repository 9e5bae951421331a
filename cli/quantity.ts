/**
 * Sizes, rates and durations, from and for people. Sizes are binary: K, M, G, T are powers of 1024, with or without "iB".
 *
 * @module
 */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const UNIT_POWER: Record<string, number> = { "": 0, K: 1, M: 2, G: 3, T: 4, P: 5 };

/** A quantity that a person wrote wrongly. The message says what would be right. */
export class QuantityError extends Error {
  override name = "QuantityError";
}

/** Reads "4K", "1.5G", "64MiB", "4096" as bytes. Throws {@link QuantityError}. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?$/i.exec(text.trim());
  const sizeBytes = match === null ? NaN : Number(match[1]) * 1024 ** UNIT_POWER[match[2].toUpperCase()];
  if (!Number.isSafeInteger(sizeBytes)) {
    throw new QuantityError(`"${text}" is not a size. Write a number with K, M, G or T (powers of 1024), e.g. 64M.`);
  }
  return sizeBytes;
}

/** Reads "50M", "50M/s", "unlimited" or "none" (0) as bytes per second. Throws {@link QuantityError}. */
export function parseRate(text: string): number {
  if (/^(unlimited|none|off|0)$/i.test(text.trim())) return 0;
  try {
    return parseSize(text.trim().replace(/\/s$/i, ""));
  } catch {
    throw new QuantityError(
      `"${text}" is not a rate. Write bytes per second with K, M or G, e.g. 50M, or "unlimited".`,
    );
  }
}

/** Reads "500ms", "3s", "2m", "1h" or "3" (seconds) as milliseconds. Throws {@link QuantityError}. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h)?$/i.exec(text.trim());
  const perUnit: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  const ms = match === null ? NaN : Math.round(Number(match[1]) * perUnit[(match[2] ?? "s").toLowerCase()]);
  if (!Number.isSafeInteger(ms)) {
    throw new QuantityError(`"${text}" is not a duration. Write a number with ms, s, m or h, e.g. 3s or 500ms.`);
  }
  return ms;
}

/** Bytes in the largest unit that leaves a number of at least 1: "12.4 MiB", "1 GiB", "0 B". */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || Number.isInteger(value) || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, "")} ${UNITS[unit]}`;
}

/** "12.4 MiB/s". */
export function formatRate(bytesPerSecond: number): string {
  return `${formatSize(bytesPerSecond)}/s`;
}

/** Two leading units at most: "3 s", "2 min 05 s", "1 h 12 min", "3 d 4 h". */
export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A count with thin groups: 1234567 as "1,234,567". */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}
