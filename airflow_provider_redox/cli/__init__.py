"""The command line: `keygen`, `check`, `jwks`, `probe`, `sample`, `purge`.

What a program may want to read (keys, JSON, facts) goes to stdout, words for people go to stderr. The exit status is 0
when all is well, 1 when something is wrong with the connection or with the server, 2 when the command was not used
rightly. No private key is shown but by `keygen`, and there only when that was asked for.
"""
