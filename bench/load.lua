-- Bodies for wrk: deliveries and incoming SMS, of two dialects, each body
-- different.  load.py puts in PATH and FIRST, a number that no other run has.
local threads, n = 0, 0 -- and id, which setup() gives each thread
local head = "POST PATH HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" ..
	"Content-Length: "
local format = string.format
local formats = {
	'{"event":"delivery_status","message_id":"msg-%.0f","phone":"+49151%07d","status":"%s",' ..
		'"timestamp":"2026-01-15T10:30:00Z","device_id":"device_xyz"}',
	'{"address":"+49151%07d","date_sent":"2026-01-15 10:31:00","body":"Hello, I need help ' ..
		'with my order %.0f","channel_id":1,"sms_id":%.0f,"device_id":7,' ..
		'"device_name":"till","type":"text"}',
	'{"sms_id":%.0f,"status_id":%d,"status_message":"%s","sendto":"+49151%07d",' ..
		'"senttime":"2026-01-15 10:30:00","channel_id":1,"device_id":7}',
	'{"event":"incoming_sms","phone":"+49151%07d","message":"Hello, I need help with my ' ..
		'order %.0f","timestamp":"2026-01-15T10:31:00Z","device_id":"device_xyz"}',
}

function setup(thread)
	threads = threads + 1
	thread:set("id", threads)
end

-- Of eight events four are deliveries: two messages, each first sent, then delivered.
local function body()
	local unique = FIRST + 2 * n + id
	local message = FIRST + 2 * (n - n % 8) + id
	local phone = unique * 7919 % 10000000
	local kind, is_later = n % 4, n % 8 >= 4
	if kind == 0 then
		return format(formats[1], message, message * 7919 % 10000000,
			is_later and "delivered" or "sent")
	elseif kind == 1 then
		return format(formats[2], phone, unique, unique)
	elseif kind == 2 then
		return format(formats[3], message, is_later and 7 or 6,
			is_later and "Delivered" or "Sent", message * 7919 % 10000000)
	end
	return format(formats[4], phone, unique)
end

function request()
	local text = body()
	n = n + 1
	return head .. #text .. "\r\n\r\n" .. text
end

function done(summary, latency)
	local e = summary.errors
	io.write(format("result %d %d %d %d %d %d\n", summary.requests, summary.duration,
		e.status + e.connect + e.read + e.write + e.timeout, latency:percentile(50),
		latency:percentile(99), latency.max))
end
