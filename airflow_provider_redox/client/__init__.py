"""The client: bytes on the wire. Two short drivers of the one flow, blocking over urllib3 and awaiting over aiohttp.

Both keep to the same rules: no redirect is ever followed, every wait has an end, bodies are bounded before and after
decompression, netrc is not read, certificates are always verified, the environment's proxies and CA bundle hold.
"""
