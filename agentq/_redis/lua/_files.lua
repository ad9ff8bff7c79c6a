--[[ Files by digest, in the hash <run>:files, or <prefix>:session:{S}:files of a run that has a session. Again: no effect. ]]
local function keep_files(prefix, run, blobs)
  if #blobs == 0 then
    return
  end
  local session = redis.call('HGET', run, 'session')
  local key = session and prefix .. ':session:{' .. session .. '}:files' or run .. ':files'
  for i = 1, #blobs, 2 do
    redis.call('HSETNX', key, blobs[i], blobs[i + 1])
  end
end
