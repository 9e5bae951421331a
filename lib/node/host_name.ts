/**
 * What this machine is called, for people.
 *
 * @module
 */

/** The host's name, or "unnamed" where the program may not ask for it. */
export function hostName(): string {
  try {
    return Deno.hostname();
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return "unnamed";
    throw error;
  }
}
