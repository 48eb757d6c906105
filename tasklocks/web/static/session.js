// Who may act: logs in with what stands behind the # of the address, which no server ever gets by itself.

const KEY = "tasklocks-key";

/** What one may do here; brought up to date by `begin`. */
export let may = { readable: true, actions: false, can_act: false };

/** Log in, if the address says how, and learn what one may do. */
export async function begin() {
  const token = /^#token=([\w-]+)/.exec(location.hash)?.[1];
  if (token) {
    // Out of the address at once: it would stay in the history, and in what people copy.
    history.replaceState(null, "", location.pathname + "#/");
    await login(token);
  }
  may = await (await fetch("api/session", { headers: headers() })).json();
}

/** Log in; return why not, or nothing. */
export async function login(token) {
  const answer = await fetch("api/login", post({ token }));
  const said = await answer.json();
  if (!answer.ok) return said.error;
  sessionStorage.setItem(KEY, said.key);
  may = await (await fetch("api/session", { headers: headers() })).json();
  return "";
}

/** Do something to a limit; raises what went wrong. */
export async function act(word, asked) {
  const answer = await fetch(`api/${word}`, post(asked));
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

function post(asked) {
  return {
    method: "POST",
    headers: { "content-type": "application/json", ...headers() },
    body: JSON.stringify(asked),
  };
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { "x-tasklocks-key": key } : {};
}
