// Talking to the server: JSON, and streams of events. Errors are the server's own words.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let key = null; // of a server that wants one; kept nowhere else

export const setKey = (given) => (key = given);

async function answer(path, body, signal) {
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  const options = body === undefined ? { headers } : {
    method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, { ...options, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new Refused(response.status, said?.error?.message ?? `The server answered ${response.status} ${response.statusText}.`);
}

export const get = async (path) => (await answer(path)).json();
export const post = async (path, body, signal) => (await answer(path, body, signal)).json();

// The events of a stream, parsed. An event that is an error is thrown.
export async function* events(path, body, signal) {
  const response = await answer(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (!data.length) continue;
      if (data.join("\n") === "[DONE]") return;
      const event = JSON.parse(data.join("\n"));
      if (event.error) throw new Refused(response.status, event.error.message);
      yield event;
    }
  }
}
