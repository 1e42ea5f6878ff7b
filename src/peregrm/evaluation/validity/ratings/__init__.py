"""What people said about replies, read from the files there are: one reader a file, chosen by what stands in the first row.

Readers give the same typed rows whatever the source: two replies of which one was preferred (`rows.Pair`), a reply with a level
(`rows.Rated`). A row that cannot be used for what it says (a tie, a reply to nobody) is left out and counted; a row that cannot be read
is an error. Left out on purpose: guessing a user where the file names none. Rows are then clustered by what they certainly share, and
`HumanFile.clusters` says by what.
"""
