// Numbers and moments as people say them, as the command line does.

/** Return a duration in words; null: a dash. */
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const length = Math.max(0, seconds);
  if (length < 10) return `${length.toFixed(1)} s`;
  if (length < 120) return `${length.toFixed(0)} s`;
  const minutes = Math.round(length / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Return a moment of the backend's clock (seconds since 1970) as local time. */
export function when(moment) {
  const date = new Date(moment * 1000);
  const time = date.toLocaleTimeString([], { hour12: false });
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
}

/** Return "1 limit" or "2 limits". */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en").replaceAll(",", " ")} ${number === 1 ? one : many}`;
}
