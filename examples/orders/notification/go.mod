module notification

go 1.22
