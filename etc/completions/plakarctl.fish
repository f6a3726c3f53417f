# Completion of plakarctl(8) for fish: /usr/share/fish/vendor_completions.d/plakarctl.fish

function __plakarctl_snapshots
    echo latest
    plakarctl -q ls 2>/dev/null | string match -r '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
end

# from the table of commands: npm run completions
set -l commands create push ls cat pull tarball check rm keep repair cleanup clone sync key find diff checksum info shell status monitor metrics log trace pause resume reload stop help version
set -l inside cat check checksum diff find ls pull rm tarball
complete -c plakarctl -n '__fish_seen_subcommand_from create' -o no-encryption -d 'as the configuration must say too'
complete -c plakarctl -n '__fish_seen_subcommand_from push' -o tag -r -d 'mark the snapshot with TAG'
complete -c plakarctl -n '__fish_seen_subcommand_from push' -o exclude -r -d 'of a PATH, leave out what matches, as in plakard.conf(5)'
complete -c plakarctl -n '__fish_seen_subcommand_from push' -o one-filesystem -d 'of a PATH, leave out what is mounted below'
complete -c plakarctl -n '__fish_seen_subcommand_from ls' -o R -d 'with all that is below'
complete -c plakarctl -n '__fish_seen_subcommand_from ls' -o tag -r -d 'only snapshots with every TAG'
complete -c plakarctl -n '__fish_seen_subcommand_from ls' -o source -r -d 'only snapshots of SOURCE'
complete -c plakarctl -n '__fish_seen_subcommand_from pull' -o to -r -a '(__fish_complete_directories)' -d 'directly under DIR'
complete -c plakarctl -n '__fish_seen_subcommand_from pull' -o overwrite -d 'replace what is there and differs'
complete -c plakarctl -n '__fish_seen_subcommand_from tarball' -o o -r -F -d 'to FILE, not to standard output'
complete -c plakarctl -n '__fish_seen_subcommand_from check' -o fast -d 'only that everything is there'
complete -c plakarctl -n '__fish_seen_subcommand_from check' -o sample -r -d 'and read so much of it, another part each time'
complete -c plakarctl -n '__fish_seen_subcommand_from keep' -o n -d 'only say which would be removed'
complete -c plakarctl -n '__fish_seen_subcommand_from keep' -o tag -r -d 'judge only snapshots with every TAG'
complete -c plakarctl -n '__fish_seen_subcommand_from keep' -o source -r -d 'judge only snapshots of SOURCE'
complete -c plakarctl -n '__fish_seen_subcommand_from keep' -o keep-tag -r -d 'keep snapshots with TAG'
complete -c plakarctl -n '__fish_seen_subcommand_from repair' -o n -d 'only say what is damaged'
complete -c plakarctl -n '__fish_seen_subcommand_from repair' -o accept -d 'take the repository as it is for right, whatever its log says'
complete -c plakarctl -n '__fish_seen_subcommand_from repair' -o remove -d 'remove snapshots that cannot be restored whole'
complete -c plakarctl -n '__fish_seen_subcommand_from cleanup' -o n -d 'only say what would be returned'
complete -c plakarctl -n '__fish_seen_subcommand_from cleanup' -o reseal -d 'also seal anew what is under older keys than the newest'
complete -c plakarctl -n '__fish_seen_subcommand_from clone' -o n -d 'only say what would be copied'
complete -c plakarctl -n '__fish_seen_subcommand_from sync' -o n -d 'only say what would be copied'
complete -c plakarctl -n '__fish_seen_subcommand_from sync' -o tag -r -d 'only snapshots with every TAG'
complete -c plakarctl -n '__fish_seen_subcommand_from sync' -o source -r -d 'only snapshots of SOURCE'
complete -c plakarctl -n '__fish_seen_subcommand_from sync' -o since -r -d 'only snapshots since a time, or a duration ago'
complete -c plakarctl -n '__fish_seen_subcommand_from key' -o label -r -d 'of the new slot'
complete -c plakarctl -n '__fish_seen_subcommand_from key' -o passphrase-file -r -F -d 'the new passphrase is the first line of FILE'
complete -c plakarctl -n '__fish_seen_subcommand_from key' -o key-file -r -F -d 'the new slot is for the key file FILE'
complete -c plakarctl -n '__fish_seen_subcommand_from key' -o force -d 'rm: also the slot that the configuration uses'
complete -c plakarctl -n '__fish_seen_subcommand_from key' -o revoke -d 'rotate: no other slot opens what is stored from now on'
complete -c plakarctl -n '__fish_seen_subcommand_from trace' -o process -r -d 'only what PROCESS does, as status names it'
# end of the table

complete -c plakarctl -s j -d 'One JSON object per line'
complete -c plakarctl -s q -d 'Only errors'
complete -c plakarctl -s v -d 'Say more'
complete -c plakarctl -s s -r -F -d 'Control socket'
complete -c plakarctl -f -n "not __fish_seen_subcommand_from $commands" -a "on $commands"
complete -c plakarctl -f -n "__fish_seen_subcommand_from $inside" -a '(__plakarctl_snapshots)'
