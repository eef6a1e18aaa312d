// What the page asks of its server. Every refusal is one sentence, and is thrown as an Error of it.

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer; see whether inlay ui still runs.");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let said = text;
  try {
    said = JSON.parse(text).error;
  } catch { /* the guard speaks plain text */ }
  throw new Error(said || `The server refused (${answer.status}).`);
}

export const get = async (path) => (await ask(path)).json();

export const post = async (path, wish = {}) => (await ask(path, { method: "POST", body: JSON.stringify(wish) })).json();

export async function bitmap(path) {
  return createImageBitmap(await (await ask(path)).blob());
}

/** A mask as the server cuts it out: a picture and where its left upper corner stands. */
export async function cutOut(path, options) {
  const answer = await ask(path, options);
  const says = JSON.parse(answer.headers.get("Inlay-Mask"));
  return { ...says, bitmap: await createImageBitmap(await answer.blob()) };
}
