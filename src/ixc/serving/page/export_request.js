// Export a request as a curl command and as a program for OpenAI's Python client.

function requestText(body, url) {
  const text = JSON.stringify(body, null, 2);
  return url ? text.replaceAll(url, "data:image/png;base64,IMAGE") : text;
}

export function asCurl(body, url, withKey) {
  const key = withKey ? " -H 'Authorization: Bearer KEY'" : "";
  const text = requestText(body, url)
    .replaceAll("'", "'\\''")
    .replaceAll("base64,IMAGE", `base64,'"$(base64 -w0 page.png)"'`);
  return `printf '%s' '${text}' |\n  curl -s ${location.origin}/v1/chat/completions -H 'Content-Type: application/json'${key} -d @-`;
}

export function asPython(body, url) {
  const { model, messages, hd, partition } = JSON.parse(requestText(body, url));
  const extra = JSON.stringify(partition ? { hd, partition } : { hd });
  const list = JSON.stringify(messages, null, 4);
  const picture = list.includes('base64,IMAGE"')
    ? 'import base64\nimage = base64.b64encode(open("page.png", "rb").read()).decode()\n'
    : "";
  return (
    `from openai import OpenAI\n${picture}client = OpenAI(base_url="${location.origin}/v1", api_key="KEY")\n` +
    `answer = client.chat.completions.create(\n    model=${JSON.stringify(model)},\n    messages=` +
    `${list.replaceAll('base64,IMAGE"', 'base64," + image')},\n    extra_body=${extra},\n)\n` +
    "print(answer.choices[0].message.content)\n"
  );
}
