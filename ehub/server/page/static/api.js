// Questions to the server. The token is kept by the tab and sent as a header: never in an address.

const TOKEN = "ehub-token";

/** An answer that is no good: `status` is that of HTTP, 0 if the server was not reached. */
export class Failed extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** What the server says to a question; values that are null or undefined are left out. */
export async function ask(path, values = {}) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  const known = token.get();
  const headers = known ? { Authorization: `Bearer ${known}` } : {};
  let response;
  try {
    response = await fetch(query ? `${path}?${query}` : path, { headers, cache: "no-store" });
  } catch {
    throw new Failed(0, "The server cannot be reached.");
  }
  const answer = await response.json().catch(() => ({ error: "The server's answer cannot be read." }));
  if (!response.ok) throw new Failed(response.status, answer.error);
  return answer;
}
