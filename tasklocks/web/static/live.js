// The stream of changes. It is closed while nobody looks at the page, so that the server has nothing to do.

let source = null;
let listeners = {};
let address = "";
let still = false;

/** Watch what the parameters say from now on, and nothing else; `heard` has a function for each kind of event. */
export function watch(parameters, heard) {
  address = `api/live?${new URLSearchParams(parameters)}`;
  listeners = heard;
  reopen();
}

/** Let nothing change, or go on with what is there now. */
export function holdStill(wanted) {
  still = wanted;
  reopen();
}

function reopen() {
  source?.close();
  source = null;
  if (document.hidden || still || !address) return;
  const opened = (source = new EventSource(address));
  for (const [kind, heard] of Object.entries(listeners)) {
    opened.addEventListener(kind, (event) => opened === source && heard(JSON.parse(event.data)));
  }
  opened.addEventListener("error", () => {
    if (opened !== source) return;
    listeners.look?.({ at: null, error: "the page's server does not answer" });
    // A server that refuses ends it for good; one that is gone is tried again by the browser.
    if (opened.readyState === EventSource.CLOSED) setTimeout(() => opened === source && again(), 2000);
  });
}

async function again() {
  const session = await fetch("api/session").then((answer) => answer.json()).catch(() => ({ readable: true }));
  // It was started anew and does not know this browser any more.
  if (!session.readable) location.reload();
  else reopen();
}

document.addEventListener("visibilitychange", reopen);
