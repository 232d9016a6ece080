"""A program of an agent: asks an API what it is told to ask, with one of the HTTP clients of Python, and says what it got."""

import hashlib
import json
import os
import sys

base, token = os.environ["BASE"], os.environ.get("TOKEN")
own = {"authorization": "Bearer " + token} if token else {}


def headers_of(ask):
    return {**own, **({"content-type": "application/json"} if "json" in ask else {})}


def files_of(ask):
    return {"file": ("a.txt", ask["file"].encode(), "text/plain")} if "file" in ask else None


def body_of(ask):
    return ask["json"].encode() if "json" in ask else None


def urllib_client():
    import urllib.error
    import urllib.request

    def call(ask, url):
        if "file" in ask:  # It has nothing that writes forms: by hand.
            parts = '--b\r\nContent-Disposition: form-data; name="title"\r\n\r\nof a file\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n%s\r\n--b--\r\n'
            body, headers = (parts % ask["file"]).encode(), {**own, "content-type": "multipart/form-data; boundary=b"}
        else:
            body, headers = body_of(ask), headers_of(ask)
        request = urllib.request.Request(url, method=ask["method"], data=body, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    return call


def requests_client():
    import requests

    session = requests.Session()

    def call(ask, url):
        files = files_of(ask)
        data = {"title": "of a file"} if files else body_of(ask)
        answer = session.request(ask["method"], url, data=data, files=files, headers=headers_of(ask))
        return answer.status_code, {**dict(answer.headers), "history": repr([vars(each) for each in answer.history])}, answer.content

    return call


def httpx_client():
    import httpx

    client = httpx.Client(follow_redirects=True)

    def call(ask, url):
        files = files_of(ask)
        body = {"data": {"title": "of a file"}, "files": files} if files else {"content": body_of(ask)}
        answer = client.request(ask["method"], url, headers=headers_of(ask), **body)
        history = repr([each.headers for each in answer.history])
        return answer.status_code, {**dict(answer.headers), "history": history}, answer.content

    return call


call = {"urllib": urllib_client, "requests": requests_client, "httpx": httpx_client}[sys.argv[1]]()
seen = []  # Kept, so that whoever looks into the memory of this process finds it.
for ask in json.loads(os.environ["ASKS"]):
    status, headers, body = call(ask, base + ask["at"])
    seen.append((headers, body))
    text = hashlib.sha256(body).hexdigest() if len(body) > 1_000_000 else body.decode()
    lower = {name.lower(): value for name, value in headers.items()}
    print(json.dumps({"status": status, "headers": lower, "body": text}), flush=True)
